/* What the watcher looks at whenever it wakes: system calls only, without the GIL. */
#ifndef FA_WATCH_H
#define FA_WATCH_H

#include <stdint.h>

/* In how many ns to look again, at most a second. Adds to `reasons` (enum fa_reason). */
uint64_t watch(uint32_t *reasons);
void watch_reset(int in_child); /* a recording begins, or goes on in a child */

#endif
