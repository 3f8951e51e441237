/* How often the kernel has killed for memory in this process's own cgroup. */
#ifndef FA_OOM_KILLS_H
#define FA_OOM_KILLS_H

#include <stdint.h>

/* Path of the cgroup's memory.events (v2) or memory.oom_control (v1); "" or NULL: none. */
void oom_kills_watch(const char *path);
/* About 10 us. 0 when it cannot be read. Async-signal-safe. */
uint64_t oom_kills_now(void);

#endif
