/* What the hooks of both designs are made of. */
#ifndef FA_HOOK_PARTS_H
#define FA_HOOK_PARTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "live.h"
#include "recorder.h"
#include "sample.h"

#define SMALL 512u
#define IS_SMALL(n) ((n) - 1 < SMALL)

/* A hook that nearly every allocation passes: in one cache line. */
#define HOT_HOOK __attribute__((hot, aligned(64)))

/* By enum fa_domain, which has PyMemAllocatorDomain's order. */
extern PyMemAllocatorEx original[3] HIDDEN;

struct suspended {
    struct fa_thread *slot;
};

/* From here to resume(), hooks below only forward (or divert): see struct fa_tls. */
static inline struct suspended suspend(enum fa_nested nested, size_t divert_bytes)
{
    struct suspended was = {fa_tls.slot};
    fa_tls.slot = &fa_nobody;
    fa_tls.nested = (uint8_t)nested;
    fa_tls.divert_bytes = divert_bytes;
    fa_tls.diverted = NULL;
    return was;
}

static inline void resume(struct suspended was)
{
    fa_tls.nested = FA_NESTED_NO;
    fa_tls.slot = was.slot;
}

/* The hooks of each design, installed with the original's ctx and, where `free` is not hooked, its
 * free. */
PyMemAllocatorEx divert_hooks(int domain);
PyMemAllocatorEx filter_hooks(int domain);

#endif
