/* How much memory is used: RSS and the cgroup's usage, read from files that are kept open. System
 * calls only; no lock is held. */
#ifndef FA_USAGE_H
#define FA_USAGE_H

#include <stdint.h>

#include "recorder.h"

/* Reads RSS and the cgroup's usage anew if the last reading is older. About 2 us when it does;
 * system calls only, no lock held. */
void usage_refresh(uint64_t older_than_ns);
/* As last read. */
static inline uint64_t usage_rss(void)
{
    return __atomic_load_n(&fa.header->rss_bytes, __ATOMIC_RELAXED);
}

static inline uint64_t usage_of_cgroup(void)
{
    return __atomic_load_n(&fa.header->cgroup_bytes, __ATOMIC_RELAXED);
}

/* Usage in percent of the limit, 0 when there is none (or another thread reads just now). Where the limit is a cgroup's: its usage less
 * the page cache it can drop (inactive file pages); else RSS. About 10 us. */
unsigned usage_percent(void);

/* Opens the files to read usage from. Path: "" or NULL for no cgroup. */
void usage_open(const char *cgroup_usage_path, int limit_of_cgroup);
void usage_reopen(void); /* in a forked child: /proc/self is another one */

#endif
