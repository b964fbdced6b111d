/**
 * What of NVIDIA's driver goes into a layer, and where to: as data, by the names that 550 and later have. The choice is
 * nvidia-container-toolkit's and Kata's: what computes, draws and encodes; no X server, no debuggers, no MPS.
 */

export interface Library {
  /** Its file is `<name>.so.<version of the driver>`. */
  name: string;
  /** What programs ask for; absent: the file's own name. */
  soname?: string;
  /** Programs also open it without a version (dlopen). */
  plain?: true;
  why: string;
}

export const LIBRARIES: readonly Library[] = [
  { name: 'libcuda', soname: 'libcuda.so.1', plain: true, why: 'CUDA' },
  { name: 'libnvidia-ml', soname: 'libnvidia-ml.so.1', plain: true, why: 'NVML: nvidia-smi, monitoring' },
  {
    name: 'libnvidia-ptxjitcompiler',
    soname: 'libnvidia-ptxjitcompiler.so.1',
    plain: true,
    why: 'CUDA compiles PTX for the card',
  },
  { name: 'libnvidia-nvvm', soname: 'libnvidia-nvvm.so.4', plain: true, why: 'CUDA links at run time' },
  { name: 'libnvidia-nvvm70', soname: 'libnvidia-nvvm70.so.4', why: 'the same, since 575' },
  { name: 'libnvidia-gpucomp', why: 'shader compiler of all of the driver, since 535' },
  { name: 'libnvidia-cfg', soname: 'libnvidia-cfg.so.1', plain: true, why: 'nvidia-persistenced' },
  { name: 'libnvidia-opencl', soname: 'libnvidia-opencl.so.1', why: 'OpenCL' },
  { name: 'libnvidia-pkcs11-openssl3', why: 'confidential computing' },
  {
    name: 'libnvidia-sandboxutils',
    soname: 'libnvidia-sandboxutils.so.1',
    why: 'container tools, since 560',
  },
  { name: 'libnvcuvid', soname: 'libnvcuvid.so.1', plain: true, why: 'decodes video' },
  { name: 'libnvidia-encode', soname: 'libnvidia-encode.so.1', plain: true, why: 'encodes video' },
  { name: 'libnvidia-opticalflow', soname: 'libnvidia-opticalflow.so.1', plain: true, why: 'optical flow' },
  { name: 'libnvidia-fbc', soname: 'libnvidia-fbc.so.1', plain: true, why: 'captures frames' },
  { name: 'libnvoptix', soname: 'libnvoptix.so.1', why: 'OptiX' },
  { name: 'libnvidia-rtcore', why: 'ray tracing of OptiX and Vulkan' },
  { name: 'libnvidia-ngx', soname: 'libnvidia-ngx.so.1', why: 'NGX' },
  { name: 'libnvidia-allocator', soname: 'libnvidia-allocator.so.1', plain: true, why: 'GBM buffers' },
  { name: 'libGLX_nvidia', soname: 'libGLX_nvidia.so.0', why: 'OpenGL and Vulkan' },
  { name: 'libEGL_nvidia', soname: 'libEGL_nvidia.so.0', why: 'OpenGL without a display' },
  { name: 'libGLESv2_nvidia', soname: 'libGLESv2_nvidia.so.2', why: 'OpenGL ES' },
  { name: 'libGLESv1_CM_nvidia', soname: 'libGLESv1_CM_nvidia.so.1', why: 'OpenGL ES' },
  { name: 'libnvidia-eglcore', why: 'of libEGL_nvidia' },
  { name: 'libnvidia-glcore', why: 'of libGLX_nvidia' },
  { name: 'libnvidia-glsi', why: 'of both' },
  { name: 'libnvidia-glvkspirv', why: 'Vulkan' },
  { name: 'libnvidia-tls', why: 'of OpenGL' },
];

/** Other files by name, with the folder in the layer's `usr` that they go to. */
export const FILES: Readonly<Record<string, string>> = {
  'nvidia-smi': 'bin',
  'nvidia-persistenced': 'bin',
  'nvidia.icd': 'share/OpenCL/vendors',
  'nvidia_icd.json': 'share/vulkan/icd.d',
  'nvidia_layers.json': 'share/vulkan/implicit_layer.d',
  '10_nvidia.json': 'share/glvnd/egl_vendor.d',
};

/** Kernel modules, without `.ko`. */
export const MODULES = ['nvidia', 'nvidia-uvm', 'nvidia-modeset', 'nvidia-drm', 'nvidia-peermem'];

/** Without these no program finds a card. */
export const REQUIRED_MODULES = ['nvidia', 'nvidia-uvm'];
export const REQUIRED_LIBRARIES = ['libcuda', 'libnvidia-ml'];

/** Of the cards' own processor, GSP; older packages have one file. */
export const FIRMWARE = /^gsp(?:_[a-z0-9]+)?\.bin$/;

/** Where the guest looks (guest/gpu/libraries.ts). */
export const LIBRARY_FOLDER = 'usr/lib/x86_64-linux-gnu';

export const VERSION = /^\d{3}\.\d{2,3}(?:\.\d{2,3})?$/;
