// The program's bytecode, as build/guest.ts made it. QuickJS runs it where it lies.
    .section .rodata.yavm_bytecode, "a", @progbits
    .balign 16
    .global yavm_bytecode
yavm_bytecode:
    .incbin YAVM_BYTECODE
    .global yavm_bytecode_end
yavm_bytecode_end:
    .section .note.GNU-stack, "", @progbits
