/* How much memory is used, against each limit there is: read from files that are kept open. System calls
 * only; no lock is held. */
#ifndef FA_USAGE_H
#define FA_USAGE_H

#include <stdint.h>

#include "fastalloc.h"
#include "recorder.h"

/* Reads RSS and the cgroup's usage anew if the last reading is older. now_ns: fa_now_ns(), which a sample
 * needs anyway. About 2 us when it does; system calls only, no lock held. */
void usage_refresh(uint64_t now_ns, uint64_t older_than_ns);

/* How old the usage may be that the record of a span or phase tells. In a loop a reading takes 2 us; in a
 * service, whose requests have filled the caches, 12 to 25 us: more than all else that a span does. */
#define USAGE_SCOPE_NS 50000000ull

/* As last read. */
static inline uint64_t usage_rss(void)
{
    return __atomic_load_n(&fa.header->rss_bytes, __ATOMIC_RELAXED);
}

static inline uint64_t usage_of_cgroup(void)
{
    return __atomic_load_n(&fa.header->cgroup_bytes, __ATOMIC_RELAXED);
}

/* One reading. In the order of the limits. */
struct usage {
    uint64_t used[FA_LIMITS];
    uint64_t limit[FA_LIMITS]; /* as it is now; 0: none */
};

/* 0: another thread reads just now. 2 us, and 8 us for each cgroup that is more than half full: then the page
 * cache it can drop (inactive file pages) is taken off. The limits are read anew with it: those of the process
 * each time, the files when that was USAGE_LIMITS_NS ago (1 us each), or at once: `afresh`. */
#define USAGE_LIMITS_NS 100000000ull
int usage_read(struct usage *now, int afresh);

/* Of the limit that is nearest: in percent, 0 when there is none (or another thread reads just now), and what
 * is left of it, -1 likewise. */
unsigned usage_percent(void);
int64_t usage_headroom(void);

unsigned usage_limit_count(void);
enum fa_limit_kind usage_limit_kind(unsigned index);
const char *usage_limit_source(unsigned index); /* as limits.py names it */

/* Opens the files to read usage from. Path: the cgroup whose usage is noted; "" or NULL for none. */
void usage_open(const char *cgroup_usage_path, const struct fa_limit *limits, unsigned count);
void usage_reopen(void); /* in a forked child: /proc/self is another one */

#endif
