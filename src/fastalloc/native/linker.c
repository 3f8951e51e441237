#define _GNU_SOURCE
#include "linker.h"

#include "fastalloc.h"
#include "native_state.h"

#ifdef __GLIBC__

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

void linker_wait_for_loading(void)
{
    Dl_info info;
    dladdr(&fa, &info); /* takes that lock for a moment */
}

static int first_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info, (void)size, (void)data;
    return 1;
}

#define PROBE_MS 300

static enum { LINKER_FREE, LINKER_UNPROVED, LINKER_STUCK } linker;
static sem_t probed;

static void *probe(void *unused)
{
    linker_wait_for_loading();
    dl_iterate_phdr(first_object, NULL);
    sem_post(&probed);
    return unused;
}

int linker_is_free(void)
{
    if (linker != LINKER_UNPROVED) return linker == LINKER_FREE;
    pthread_t thread;
    pthread_attr_t attributes;
    struct timespec until;
    linker = LINKER_STUCK;
    if (sem_init(&probed, 0, 0) != 0 || pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, probe, NULL) == 0) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += PROBE_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        int error;
        while ((error = sem_timedwait(&probed, &until)) != 0 && errno == EINTR) continue;
        if (!error) linker = LINKER_FREE;
    }
    pthread_attr_destroy(&attributes);
    return linker == LINKER_FREE;
}

void fa_native_wait(void)
{
    if (native_state.on && linker == LINKER_FREE) linker_wait_for_loading();
}

void linker_child(void)
{
    linker = LINKER_UNPROVED;
}

#else
void fa_native_wait(void)
{
}
#endif
