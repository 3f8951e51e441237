/* What recording costs, measured where it runs: the CPU time of one in 16 passes through the rare path of a
 * hook, times 16. Reading the thread's CPU clock is a system call of some 200 ns, too dear for each pass;
 * wall time would count what other threads do while this one waits. */
#ifndef FA_OWN_CPU_H
#define FA_OWN_CPU_H

#include <errno.h>
#include <time.h>

#include "recorder.h"

#define FA_OWN_CPU_EVERY 16u /* a power of two */

extern uint32_t own_cpu_passes HIDDEN;
extern uint64_t own_cpu_clock_ns HIDDEN; /* what reading the clock adds to a measurement */

void own_cpu_calibrate(void); /* some microseconds */

static inline uint64_t own_cpu_now_ns(void)
{
    struct timespec now;
    int saved = errno;
    int failed = clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    errno = saved;
    return failed ? 0 : (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* 0: this pass is not measured. */
static inline uint64_t own_cpu_begin(void)
{
    uint32_t pass = __atomic_add_fetch(&own_cpu_passes, 1, __ATOMIC_RELAXED);
    return LIKELY(pass % FA_OWN_CPU_EVERY) ? 0 : own_cpu_now_ns();
}

static inline void own_cpu_end(uint64_t begun_ns)
{
    if (LIKELY(!begun_ns) || !fa.header) return;
    uint64_t ns = own_cpu_now_ns() - begun_ns;
    ns -= ns < own_cpu_clock_ns ? ns : own_cpu_clock_ns;
    __atomic_fetch_add(&fa.header->own_cpu_ns, ns * FA_OWN_CPU_EVERY, __ATOMIC_RELAXED);
}

#endif
