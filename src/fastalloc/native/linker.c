#define _GNU_SOURCE
#include "linker.h"

#include "fastalloc.h"
#include "native_frames.h"
#include "native_hooks.h"

#ifdef __GLIBC__

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static uint64_t settled;

static int count_added(struct dl_phdr_info *info, size_t size, void *added)
{
    (void)size;
    *(uint64_t *)added = info->dlpi_adds;
    return 1;
}

static void settle(void)
{
    Dl_info info;
    uint64_t added = 0, before = __atomic_load_n(&settled, __ATOMIC_RELAXED);
    dl_iterate_phdr(count_added, &added);
    dladdr(&fa, &info); /* takes the first lock for a moment */
    while (added > before &&
           !__atomic_compare_exchange_n(&settled, &before, added, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) continue;
}

/* --- in a forked child ------------------------------------------------------------------------ */

#define PROBE_MS 300

enum { FREE, UNPROVED, PROBING, STUCK };
static int state;
static sem_t probed;

static int now(void)
{
    return __atomic_load_n(&state, __ATOMIC_ACQUIRE);
}

static int move(int from, int to)
{
    return __atomic_compare_exchange_n(&state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void *probe(void *unused)
{
    settle();
    __atomic_store_n(&state, FREE, __ATOMIC_RELEASE); /* however late */
    sem_post(&probed);
    return unused;
}

static void start_probe(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_create(&thread, &attributes, probe, NULL); /* refused: nobody posts */
    pthread_attr_destroy(&attributes);
}

static void wait_for_probe(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PROBE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    int error;
    while ((error = sem_timedwait(&probed, &until)) != 0 && errno == EINTR) continue;
    if (!error) sem_post(&probed); /* for the next one that waits */
    else move(PROBING, STUCK);
}

int linker_is_free(void)
{
    if (LIKELY(now() == FREE)) return 1;
    if (move(UNPROVED, PROBING)) start_probe();
    if (now() == PROBING) wait_for_probe();
    return now() == FREE;
}

void linker_settle(void)
{
    if (now() == FREE) settle();
    else (void)linker_is_free(); /* the probe settles */
}

uint64_t linker_settled(uint64_t added, int wait)
{
    uint64_t all = __atomic_load_n(&settled, __ATOMIC_ACQUIRE);
    if (all >= added || !wait) return all < added ? all : added;
    linker_settle();
    return linker_settled(added, 0);
}

void linker_child(void)
{
    state = sem_init(&probed, 0, 0) == 0 ? UNPROVED : STUCK;
}

/* --- the door ----------------------------------------------------------------------------------- */

void fa_native_prepare(void)
{
    (void)native_frames_prepare();
    (void)native_originals_find();
    linker_settle();
}

void fa_native_wait(void)
{
    if (native_originals_known()) linker_settle();
}

#else
void fa_native_prepare(void)
{
}

void fa_native_wait(void)
{
}
#endif
