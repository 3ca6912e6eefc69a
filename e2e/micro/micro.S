# A guest of one page: it draws on every bochs display that it finds, says so on its serial port, and
# switches itself off once it is sent a byte.
#
# QEMU starts it by its PVH note, after its firmware has given the displays their addresses: in 32 bits,
# without paging, all memory flat. What a display shows is a pixel for each place, as 0x00SSYYXX: the number
# of its slot, and the low bytes of line and column. Displays in slots from 16 on get a picture of 64 x 64,
# since each of their pixels may be a message; the others one of 640 x 480.

    .set SERIAL, 0x3f8
    .set LINE_STATUS, SERIAL + 5
    .set CONFIG_ADDRESS, 0xcf8
    .set CONFIG_DATA, 0xcfc
    .set PM_CONTROL, 0x604              # as QEMU's q35 has it
    .set SLEEP, 0x2000                  # SLP_EN, of type 0

    .set DISPLAY, 0x11111234            # vendor in the lower half
    .set SLOTS, 32
    .set FIRST_SMALL, 16

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                      # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start

    .text
    .code32
    .globl start
start:
    cld
    mov $stack_top, %esp
    mov $up, %esi
    call say
    xor %ebx, %ebx
1:  xor %ecx, %ecx
    call read_config
    cmp $DISPLAY, %eax
    jne 2f
    call draw
2:  inc %ebx
    cmp $SLOTS, %ebx
    jb 1b
    mov $drawn, %esi
    call say

wait_byte:
    mov $LINE_STATUS, %edx
    in %dx, %al
    test $1, %al
    jz wait_byte
    mov $PM_CONTROL, %edx
    mov $SLEEP, %eax
    out %ax, %dx
3:  hlt
    jmp 3b

# Draws on the display in slot %ebx.
draw:
    mov $4, %ecx                        # the command register: answer in memory
    call read_config
    or $2, %eax
    call write_config
    mov $0x18, %ecx                     # BAR2, the registers
    call read_config
    and $~15, %eax
    lea 0x500(%eax), %ebp
    mov $640, %ecx
    mov $480, %edx
    cmp $FIRST_SMALL, %ebx
    jb 1f
    mov $64, %ecx
    mov $64, %edx
1:  movw $0, 8(%ebp)                    # ENABLE
    mov %cx, 2(%ebp)                    # XRES
    mov %dx, 4(%ebp)                    # YRES
    movw $32, 6(%ebp)                   # BPP
    mov %cx, 12(%ebp)                   # VIRT_WIDTH
    movw $0, 16(%ebp)                   # X_OFFSET
    movw $0, 18(%ebp)                   # Y_OFFSET
    movw $0x41, 8(%ebp)                 # ENABLE
    mov %ecx, width
    mov %edx, height
    mov $0x10, %ecx                     # BAR0, the pixels
    call read_config
    and $~15, %eax
    mov %eax, %edi
    xor %edx, %edx
2:  mov %ebx, %eax
    shl $8, %eax
    mov %dl, %al
    shl $8, %eax
    xor %ecx, %ecx
3:  mov %cl, %al
    stosl
    inc %ecx
    cmp width, %ecx
    jb 3b
    inc %edx
    cmp height, %edx
    jb 2b
    ret

# The place of register %ecx of slot %ebx, for the next access.
select_config:
    push %eax
    mov %ebx, %eax
    shl $11, %eax
    lea 0x80000000(%eax, %ecx), %eax
    mov $CONFIG_ADDRESS, %edx
    out %eax, %dx
    pop %eax
    mov $CONFIG_DATA, %edx
    ret

# Into %eax.
read_config:
    call select_config
    in %dx, %eax
    ret

# From %eax.
write_config:
    call select_config
    out %eax, %dx
    ret

# Sends the text at %esi.
say:
    mov $SERIAL, %edx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
2:  ret

    .section .rodata
up: .asciz "up\n"
drawn:
    .asciz "drawn\n"

    .bss
    .balign 16
width:
    .skip 4
height:
    .skip 4
    .skip 1024
stack_top:
