/* Functions whose names the tests of native frames look for, and stacks of all kinds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#ifdef __clang__
#define KEPT __attribute__((noinline)) /* it clones nothing */
#else
#define KEPT __attribute__((noinline, noclone))
#endif
#define ORDINARY __asm__ volatile("" ::: "memory") /* no tail call */

static KEPT void *frames_leaf(size_t n)
{
    void *block = malloc(n);
    ORDINARY;
    return block;
}

static KEPT void *frames_middle(size_t n)
{
    void *block = frames_leaf(n + 1);
    ORDINARY;
    return block;
}

KEPT void *frames_outer(size_t n)
{
    void *block = frames_middle(n + 1);
    ORDINARY;
    return block;
}

KEPT void *frames_deep(int depth, size_t n)
{
    void *block = depth ? frames_deep(depth - 1, n) : frames_leaf(n);
    ORDINARY;
    return block;
}

static KEPT void *frames_thread(void *n)
{
    void *block = frames_outer((size_t)(uintptr_t)n);
    ORDINARY;
    return block;
}

void *in_thread(size_t n)
{
    pthread_t thread;
    void *block;
    if (pthread_create(&thread, NULL, frames_thread, (void *)(uintptr_t)n) != 0) return NULL;
    pthread_join(thread, &block);
    return block;
}

/* On a stack of its own, below which nothing is mapped to read, and above it neither. */
static ucontext_t here, there;
static void *made;

static void frames_context(unsigned n)
{
    made = frames_outer(n);
    ORDINARY;
}

void *in_context(void *stack, size_t stack_bytes, unsigned n)
{
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = stack_bytes;
    there.uc_link = &here;
    makecontext(&there, (void (*)(void))frames_context, 1, n);
    swapcontext(&here, &there);
    return made;
}

/* In a signal handler, on a stack of its own. */
static size_t handler_n;

static KEPT void frames_handler(int number)
{
    (void)number;
    made = frames_outer(handler_n);
    ORDINARY;
}

void *in_handler(void *stack, size_t stack_bytes, size_t n)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = stack_bytes}, old;
    struct sigaction action = {.sa_handler = frames_handler, .sa_flags = SA_ONSTACK}, was;
    handler_n = n;
    sigaltstack(&alternate, &old);
    sigaction(SIGUSR1, &action, &was);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &was, NULL);
    if (old.ss_flags == SS_DISABLE) old.ss_sp = NULL;
    sigaltstack(&old, NULL);
    return made;
}

/* With its return address and saved registers overwritten while the block is taken: by `with`, then mended. */
KEPT void *in_broken_stack(uintptr_t with, size_t n)
{
    uintptr_t *frame = __builtin_frame_address(0);
    uintptr_t caller = frame[0], back = frame[1];
    frame[0] = with;
    frame[1] = with;
    void *block = frames_leaf(n);
    frame[0] = caller;
    frame[1] = back;
    ORDINARY;
    return block;
}
