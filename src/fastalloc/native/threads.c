#define _GNU_SOURCE
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fastalloc.h"
#include "held.h"
#include "sampler.h"
#include "scopes.h"
#include "stack.h"
#include "strings.h"

#define THREADS_CAPACITY 512 /* as planned in recording.c */

struct fa_recorder fa;

/* `left` stays negative for ever: each allocation takes it further down, by at most 2^63 in all
 * only after some 10^5 years; racing threads may lose updates, which nobody reads. */
struct fa_thread fa_nobody = {.left = -1};
__thread struct fa_tls fa_tls = {.slot = &fa_nobody};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static int exit_key_made;

/* Whose slot it is, over all recordings: a thread that slept through a stop and a start still has the
 * address of its old slot, which nobody else may use meanwhile. */
static struct fa_tls *owners[THREADS_CAPACITY];

/* Thread names as Python knows them, by tid, until the thread registers (and after). */
#define NAMED_CAPACITY 1024

static struct {
    uint32_t tid;
    uint32_t name; /* FA_THREAD_NAMES */
} named[NAMED_CAPACITY];

uint64_t fa_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
    return ns - fa.header->start_monotonic_ns;
}

void fa_lock(void)
{
    fa_tls.locked = 1; /* before: a signal between the two then finds it set, and only forwards */
    pthread_mutex_lock(&lock);
    if (fa.header) {
        __atomic_store_n(&fa.header->sequence, fa.header->sequence | 1u, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
    }
}

void fa_unlock(void)
{
    if (fa.header)
        __atomic_store_n(&fa.header->sequence, (fa.header->sequence | 1u) + 1u, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    fa_tls.locked = 0;
}

void fa_lock_reset(void)
{
    /* The child's only thread is the one that locked before the fork. */
    pthread_mutex_init(&lock, NULL);
    fa_tls.locked = 0;
}

int fa_in_unready_child(void)
{
    return fa.header && fa.header->pid != (uint32_t)getpid();
}

/* --- registration ----------------------------------------------------------------------- */

static void thread_exits(void *unused)
{
    (void)unused;
    struct fa_thread *slot = fa_tls.slot;
    fa_tls.outside = 1; /* destructors that run after this one may still allocate */
    fa_tls.slot = &fa_nobody;
    if (slot == &fa_nobody || !fa.header) return;
    fa_lock();
    owners[fa_tls.slot_index] = NULL;
    if (slot->generation == fa.generation && slot->start_ns) {
        scope_flush(slot);
        fa.header->ended_count += slot->count_mark;
        fa.header->ended_bytes += slot->bytes_mark;
        for (int i = 0; i < NAMED_CAPACITY; i++)
            if (named[i].tid == slot->tid) named[i].tid = 0;
        memset(slot, 0, sizeof *slot);
    }
    fa_unlock();
}

static void make_exit_key(void)
{
    exit_key_made = pthread_key_create(&exit_key, thread_exits) == 0;
}

static uint32_t name_of(uint32_t tid)
{
    for (int i = 0; i < NAMED_CAPACITY; i++)
        if (named[i].tid == tid) return named[i].name;
    char text[7 + 17] = "native "; /* a thread that Python does not know goes by its name in the kernel */
    if (prctl(PR_GET_NAME, text + 7, 0, 0, 0) != 0) return 0;
    int ours = strcmp(text + 7, "fastalloc") == 0; /* the watcher, which Python does not always know */
    const char *name = ours || stack_has_python_nopy() ? text + 7 : text;
    return thread_name_intern(name, strlen(name));
}

/* Names with ever new numbers (one executor for each request) would fill the table: from half on,
 * numbers become "*". */
static size_t fold_numbers(const char *text, size_t bytes, char *folded, size_t capacity)
{
    size_t used = 0;
    for (size_t i = 0; i < bytes && used < capacity; i++) {
        int digit = text[i] >= '0' && text[i] <= '9';
        if (digit && used && folded[used - 1] == '*') continue;
        folded[used++] = digit ? '*' : text[i];
    }
    return used;
}

static uint32_t thread_name_find(uint32_t string)
{
    for (uint32_t i = 1; string && i < REGION(FA_THREAD_NAMES).used; i++)
        if (fa.thread_names[i].name == string) return i;
    return 0;
}

uint32_t thread_name_intern(const char *text, size_t bytes)
{
    char folded[100];
    struct fa_region *region = &REGION(FA_THREAD_NAMES);
    uint32_t known = thread_name_find(string_find(text, bytes));
    if (known) return known;
    if (region->used >= region->capacity / 2) {
        bytes = fold_numbers(text, bytes, folded, sizeof folded);
        text = folded;
    }
    uint32_t string = string_intern(text, bytes < 100 ? bytes : 100);
    known = thread_name_find(string);
    if (known) return known;
    if (!string || region->used >= region->capacity) {
        fa_lose(FA_LOSS_THREAD_NAMES);
        return 0;
    }
    uint32_t index = (uint32_t)region->used++;
    fa.thread_names[index].name = string;
    fa.thread_names[index].held.peak = fa.header->peak;
    return index;
}

static struct fa_thread *register_in(uint32_t index)
{
    struct fa_thread *slot = &fa.threads[index];
    owners[index] = &fa_tls;
    memset(slot, 0, sizeof *slot);
    slot->generation = fa.generation;
    slot->tid = (uint32_t)syscall(SYS_gettid);
    slot->name = name_of(slot->tid);
    slot->start_ns = fa_now_ns() | 1; /* 0 would mean free */
    slot->phase = fa.header->process_phase;
    uint64_t seed = ((uint64_t)slot->tid << 32) ^ fa.header->start_time_ns ^ slot->start_ns;
    sampler_begin(slot, fa.interval, seed ^ (uint64_t)(uintptr_t)slot);
    fa_tls.slot_index = index;
    fa_tls.slot = slot;
    return slot;
}

static uint32_t take_slot(void)
{
    struct fa_region *region = &REGION(FA_THREADS);
    uint32_t last = region->capacity < THREADS_CAPACITY ? region->capacity : THREADS_CAPACITY;
    for (uint32_t i = 1; i < last; i++) {
        if (owners[i]) continue;
        if (region->used <= i) region->used = i + 1;
        return i;
    }
    return 0;
}

struct fa_thread *thread_slot(void)
{
    struct fa_thread *slot = fa_tls.slot;
    if (LIKELY(slot != &fa_nobody && slot->generation == fa.generation)) return slot;
    if (fa_tls.outside || fa_tls.nested || fa_barred() || !fa_is_active()) return NULL;
    if (fa_tls.refused == fa.generation) return NULL;

    int saved = errno;
    fa_tls.locked = 1; /* pthread_setspecific may allocate, through a hooked malloc one day */
    pthread_once(&exit_once, make_exit_key);
    int watched = exit_key_made && pthread_setspecific(exit_key, &fa_tls) == 0;
    fa_tls.locked = 0;
    slot = NULL;
    if (watched) {
        fa_lock();
        uint32_t index = fa_tls.slot_index; /* its own, from an earlier recording */
        if (!fa.active) index = 0;
        else if (!index || index >= REGION(FA_THREADS).capacity) index = take_slot();
        else if (REGION(FA_THREADS).used <= index) REGION(FA_THREADS).used = index + 1;
        if (index) slot = register_in(index);
        else if (fa.active) {
            fa_tls.refused = fa.generation; /* so that it does not scan the table at every allocation */
            fa_lose(FA_LOSS_THREADS);
        }
        fa_unlock();
    }
    errno = saved;
    return slot;
}

struct fa_thread *fa_leave_out(void)
{
    struct fa_thread *slot = fa_tls.slot;
    if (fa_tls.outside) return NULL;
    fa_tls.outside = 1;
    fa_tls.slot = &fa_nobody;
    return slot;
}

void fa_take_in(struct fa_thread *slot)
{
    if (!slot) return;
    fa_tls.outside = 0;
    fa_tls.slot = slot; /* of an earlier recording, maybe: its next look finds that out */
}

void threads_reset(void)
{
    REGION(FA_THREADS).used = 1;
    REGION(FA_THREAD_NAMES).used = 1;
    memset(named, 0, sizeof named);
}

void threads_end_all(void)
{
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) {
        struct fa_thread *slot = &fa.threads[i];
        if (!slot->start_ns) continue;
        scope_flush(slot);
        fa.header->ended_count += slot->count_mark; /* as flushed: the thread may be counting on */
        fa.header->ended_bytes += slot->bytes_mark;
        slot->start_ns = 0;
    }
}

void threads_keep_only_self(void)
{
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    for (uint32_t i = 0; i < THREADS_CAPACITY; i++)
        if (owners[i] != &fa_tls) owners[i] = NULL;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) {
        struct fa_thread *slot = &fa.threads[i];
        if (!owners[i]) { /* its own is not fa_tls.slot where an original allocator forks: see suspend() */
            memset(slot, 0, sizeof *slot);
            continue;
        }
        slot->count = slot->count_mark = 0;
        slot->issued = (uint64_t)slot->left; /* bytes = 0 */
        slot->bytes_mark = 0;
        slot->tid = tid;
        slot->rng ^= ((uint64_t)tid << 32) | 1; /* not the parent's draws again */
        if (!slot->rng) slot->rng = tid;
    }
}

void fa_thread_totals(uint64_t *count, uint64_t *bytes)
{
    struct fa_thread *slot = fa.header ? thread_slot() : NULL;
    *count = slot ? slot->count : 0;
    *bytes = slot ? sampler_bytes(slot) : 0;
}

void fa_set_thread_name(uint32_t tid, const char *name, size_t name_bytes)
{
    if (!fa.header || !fa.active) return;
    fa_lock();
    uint32_t index = thread_name_intern(name, name_bytes);
    int at = -1;
    for (int i = 0; i < NAMED_CAPACITY; i++) {
        if (named[i].tid == tid) {
            at = i;
            break;
        }
        if (at < 0 && !named[i].tid) at = i;
    }
    if (at >= 0) {
        named[at].tid = tid;
        named[at].name = index;
    }
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++)
        if (fa.threads[i].start_ns && fa.threads[i].tid == tid) fa.threads[i].name = index;
    fa_unlock();
}
