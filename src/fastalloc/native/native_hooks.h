/* The hooks of native memory: what other objects call instead of the C library's malloc and mmap.
 *
 * They may be called at any time after the first patch, also after the last one is undone: programs
 * copy pointers to functions. While nothing is recorded they only forward.
 *
 * Laws, beside those of hooks_divert.c
 *  1. A block is counted where the program asks for it. CPython's own calls are counted in its
 *     domains, so the object that holds the interpreter is never patched, nor is this one; and the
 *     originals are the C library's (or a preloaded allocator's), which is not patched either.
 *  2. One countdown: native allocations count down the same `left` as Python's, so that sampling is
 *     one row of strata per thread, and count in the same exact counters.
 *  3. errno is the original's.
 */
#ifndef FA_NATIVE_HOOKS_H
#define FA_NATIVE_HOOKS_H

#include <stddef.h>
#include <sys/types.h>

#include "recorder.h"

enum native_family { NATIVE_MALLOC, NATIVE_MMAP, NATIVE_LOADER };

struct native_hook {
    const char *name;
    enum native_family family;
    void *hook;
    void **original; /* where it is kept; NULL inside: this system has none */
};

#define NATIVE_HOOKS 16
extern const struct native_hook native_hooks[NATIVE_HOOKS] HIDDEN;

/* What the hooks forward to: as symbols resolve in the whole program. */
struct native_originals {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    int (*munmap)(void *, size_t);
    void *(*mremap)(void *, size_t, size_t, int, ...);
    void *(*dlsym)(void *, const char *);
    void *(*dlopen)(const char *, int);
};
extern struct native_originals native_original HIDDEN;

/* What taking a function's address yields, by hook. It is not what calls are bound to where the main program has an
 * entry of its own for a library's function: then that is its address for all who ask. */
extern void *native_addresses[NATIVE_HOOKS] HIDDEN;

/* Looks them up, once: waits for who loads a library, see linker.h. 0: there is no such allocator. */
int native_originals_find(void);
int native_originals_known(void); /* it was done */

/* native_mmap.c */
void *native_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset);
int native_munmap(void *address, size_t bytes);
void *native_mremap(void *address, size_t old_bytes, size_t bytes, int flags, ...);

#endif
