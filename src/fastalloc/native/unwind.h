/* One step of unwinding by the tables that the compiler leaves in each module (.eh_frame, DWARF's call
 * frame information): from a function's registers to its caller's. native_frames.h has the laws.
 */
#ifndef FA_UNWIND_H
#define FA_UNWIND_H

#include <stdint.h>

#if defined(__x86_64__) && defined(__LP64__)
#define UNWIND_REGISTERS 17
#define UNWIND_SP 7
#define UNWIND_IP 16
#elif defined(__aarch64__)
#define UNWIND_REGISTERS 32
#define UNWIND_SP 31
#define UNWIND_IP 30
#endif

#ifdef UNWIND_REGISTERS

/* Of a loaded module, as the dynamic linker tells of it. */
struct unwind_module {
    uintptr_t start, end; /* as mapped */
    const unsigned char *index; /* .eh_frame_hdr */
};

struct unwind {
    uintptr_t registers[UNWIND_REGISTERS]; /* by DWARF's numbers; IP: the return address */
    uintptr_t cfa;     /* of the frame last stepped out of */
    uintptr_t pages[2]; /* that can be read */
    int at_call;       /* IP is a return address, not where a signal interrupted */
};

/* Registers of the function that it is used in. A macro: a function would be gone when they are used. */
#if defined(__x86_64__)
#define UNWIND_HERE(unwind)                                                                                  \
    __asm__ volatile("movq %%rbx, 24(%0)\n movq %%rbp, 48(%0)\n movq %%rsp, 56(%0)\n movq %%r12, 96(%0)\n"   \
                     "movq %%r13, 104(%0)\n movq %%r14, 112(%0)\n movq %%r15, 120(%0)\n"                     \
                     "leaq 1f(%%rip), %%rax\n 1: movq %%rax, 128(%0)"                                       \
                     :                                                                                       \
                     : "r"((unwind)->registers)                                                              \
                     : "rax", "memory")
#else
#define UNWIND_HERE(unwind)                                                                                  \
    __asm__ volatile("stp x19, x20, [%0, #152]\n stp x21, x22, [%0, #168]\n stp x23, x24, [%0, #184]\n"      \
                     "stp x25, x26, [%0, #200]\n stp x27, x28, [%0, #216]\n str x29, [%0, #232]\n"           \
                     "adr x9, 1f\n 1: str x9, [%0, #240]\n mov x9, sp\n str x9, [%0, #248]"                  \
                     :                                                                                       \
                     : "r"((unwind)->registers)                                                              \
                     : "x9", "memory")
#endif

/* Steps into the caller. 0: the tables do not say how, the stack ends, or it is none. */
int unwind_step(struct unwind *unwind, const struct unwind_module *module);

#endif
#endif
