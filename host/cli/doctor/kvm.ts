/** Whether KVM runs a guest here. */
