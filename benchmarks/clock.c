/* Preloaded: CLOCK_MONOTONIC and CLOCK_REALTIME run CLOCK_FACTOR times as fast from the first look on,
 * for what asks the C library (the recorder does; perf_counter and sleep of Python are kept on time by
 * being asked for by CPython's own object). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int called_by_core(void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/fastalloc/_core");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int64_t factor, first[2];
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result || clock > CLOCK_MONOTONIC || !called_by_core(__builtin_return_address(0))) return (int)result;
    if (!factor) factor = getenv("CLOCK_FACTOR") ? atoll(getenv("CLOCK_FACTOR")) : 1;
    int64_t real = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec;
    if (!first[clock]) first[clock] = real;
    int64_t told = first[clock] + (real - first[clock]) * factor;
    now->tv_sec = told / 1000000000;
    now->tv_nsec = told % 1000000000;
    return 0;
}
