#define _GNU_SOURCE
#include "watcher.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"
#include "recorder.h"
#include "recording.h"
#include "watch.h"

enum stage { ABSENT, IDLE, BUSY, LEAVING };

#define NEVER UINT64_MAX
#define STACK_BYTES ((size_t)1 << 20) /* address space; a Python job goes that deep, an idle thread touches 8 KiB */
#define JOIN_NS 200000000ull          /* an idle watcher is gone in far less: system calls only */
/* CPython counts the threads after the parent's at-fork functions, which may run Python; so none of ours
 * comes back before they are through: when the frame that forks runs on, or, where that does not tell, so much later. */
#define AFTER_FORK_NS 500000ull
#define ASK_NS 5000000ull /* so long a child asks; later its first span brings the watcher */
#define AGAIN_NS 1000000000ull /* after the system refused a thread: it does so for a while */

static uint64_t state; /* generation << 8 | stage; all changes are compare-and-exchange, or under `door` */
static uint32_t bell;  /* futex: rung, that is changed, when there is something to look at */
static uint32_t raised;
static uint64_t due_ns = NEVER; /* Python's next work, by clock_ns() */
static uint64_t forked_ns, refused_ns; /* 0: never */
static uintptr_t forked_frame;
static pthread_t forked_by;
static int in_child;
static int wanted, forking;
static int asked; /* a pending call that restarts is on its way */
static fa_work work;
static pthread_t thread;
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER; /* who starts or joins. Never held while Python runs */
static pthread_key_t first_key; /* set in the first thread of a child */
static int first_key_made, first_ended;
static __thread int is_watcher;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static uint64_t now_state(void)
{
    return __atomic_load_n(&state, __ATOMIC_ACQUIRE);
}

static int move(uint64_t generation, enum stage from, enum stage to)
{
    uint64_t was = generation << 8 | from;
    return __atomic_compare_exchange_n(&state, &was, generation << 8 | to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void ring(void)
{
    __atomic_add_fetch(&bell, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &bell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void sleep_until_rung(uint32_t heard, uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000ull), .tv_nsec = (long)(ns % 1000000000ull)};
    syscall(SYS_futex, &bell, FUTEX_WAIT_PRIVATE, heard, &time, NULL, 0);
}

static void due_by(uint64_t ns)
{
    uint64_t was = __atomic_load_n(&due_ns, __ATOMIC_RELAXED);
    while (ns < was && !__atomic_compare_exchange_n(&due_ns, &was, ns, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
}

static uint64_t after(uint64_t delay_ns)
{
    uint64_t now = clock_ns();
    return delay_ns < NEVER - now ? now + delay_ns : NEVER;
}

/* --- the thread ------------------------------------------------------------------------------ */

/* 0: it must leave. */
static int do_work(uint64_t mine, uint32_t reasons)
{
    reasons |= __atomic_exchange_n(&raised, 0, __ATOMIC_ACQ_REL);
    if (__atomic_load_n(&due_ns, __ATOMIC_RELAXED) <= clock_ns()) {
        __atomic_store_n(&due_ns, NEVER, __ATOMIC_RELAXED);
        reasons |= FA_REASON_TIMER;
    }
    fa_work call = __atomic_load_n(&work, __ATOMIC_ACQUIRE);
    if (!reasons || !call) return 1;
    if (!hooks_python_has_threads()) { /* before 3.13 one more is a fatal error */
        __atomic_fetch_or(&raised, reasons, __ATOMIC_RELAXED);
        due_by(after(AGAIN_NS));
        return 1;
    }
    if (!move(mine, IDLE, BUSY)) {
        __atomic_fetch_or(&raised, reasons & ~(uint32_t)FA_REASON_TIMER, __ATOMIC_RELAXED); /* for the next one */
        if (reasons & FA_REASON_TIMER) due_by(0);
        return 0;
    }
    due_by(after(call(reasons)));
    return move(mine, BUSY, IDLE);
}

static void *run(void *argument)
{
    uint64_t mine = (uintptr_t)argument;
    is_watcher = 1;
    fa_tls.outside = 1; /* what the recorder itself allocates is not the program's */
    prctl(PR_SET_NAME, "fastalloc");
    for (;;) {
        uint32_t heard = __atomic_load_n(&bell, __ATOMIC_ACQUIRE);
        if (now_state() != (mine << 8 | IDLE)) return NULL;
        uint32_t reasons = 0;
        uint64_t next_ns = watch(&reasons);
        if (!do_work(mine, reasons)) return NULL;
        uint64_t due = __atomic_load_n(&due_ns, __ATOMIC_RELAXED), now = clock_ns();
        uint64_t until_due = due > now ? due - now : 0;
        sleep_until_rung(heard, until_due < next_ns ? until_due : next_ns);
    }
}

/* --- start and stop --------------------------------------------------------------------------- */

static void create_locked(void)
{
    uint64_t generation = (now_state() >> 8) + 1;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* The program's signals are for its own threads: system calls there shall be interrupted. */
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* lost_file.h: one that is blocked ends the program */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    __atomic_store_n(&state, generation << 8 | IDLE, __ATOMIC_RELEASE);
    int refused = pthread_create(&thread, &attributes, run, (void *)(uintptr_t)generation) != 0;
    if (refused) __atomic_store_n(&state, generation << 8 | ABSENT, __ATOMIC_RELEASE);
    __atomic_store_n(&refused_ns, refused ? clock_ns() : 0, __ATOMIC_RELAXED);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Ends an idle watcher. 1: there is none (any more). */
static int end_locked(void)
{
    uint64_t now = now_state(), generation = now >> 8;
    if ((now & 255) == ABSENT) return 1;
    if (is_watcher || !move(generation, IDLE, LEAVING)) return 0;
    ring();
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)JOIN_NS;
    if (until.tv_nsec >= 1000000000l) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000l;
    }
    /* Bounded: another library's at-fork function may hold a lock that the end of a thread waits for. */
    if (pthread_timedjoin_np(thread, NULL, &until) != 0) pthread_detach(thread);
    __atomic_store_n(&state, generation << 8 | ABSENT, __ATOMIC_RELEASE);
    return 1;
}

static void give_up_locked(void)
{
    if (end_locked()) return;
    pthread_detach(thread); /* busy: it finds that it is nobody's */
    __atomic_store_n(&state, ((now_state() >> 8) + 1) << 8 | ABSENT, __ATOMIC_RELEASE);
}

/* The first thread of a child that a thread forked ends like any thread, by return. The process ends with its
 * last thread, which must not be the watcher. A main thread calls exit instead: this is not called then. */
static void first_thread_ends(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&door);
    __atomic_store_n(&first_ended, 1, __ATOMIC_RELEASE);
    give_up_locked();
    pthread_mutex_unlock(&door);
}

void watcher_start(void)
{
    pthread_mutex_lock(&door);
    if (!first_key_made) first_key_made = pthread_key_create(&first_key, first_thread_ends) == 0;
    __atomic_store_n(&wanted, 1, __ATOMIC_RELEASE);
    if (watcher_missing() && !forking) create_locked();
    pthread_mutex_unlock(&door);
}

void watcher_stop(void)
{
    pthread_mutex_lock(&door);
    __atomic_store_n(&wanted, 0, __ATOMIC_RELEASE);
    give_up_locked();
    __atomic_store_n(&raised, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&door);
}

int watcher_missing(void)
{
    return __atomic_load_n(&wanted, __ATOMIC_RELAXED) && (now_state() & 255) == ABSENT &&
           !__atomic_load_n(&first_ended, __ATOMIC_RELAXED);
}

/* A limit on threads, most likely. Whoever opens a span later, or collects garbage, tries again. */
static int was_refused(void)
{
    uint64_t at = __atomic_load_n(&refused_ns, __ATOMIC_RELAXED);
    return at && clock_ns() - at < AGAIN_NS;
}

/* The frame that called fork runs Python again, or something else does, later on. */
static int fork_is_through(void)
{
    uintptr_t frame = __atomic_load_n(&forked_frame, __ATOMIC_RELAXED); /* other threads ask meanwhile */
    pthread_t by = __atomic_load_n(&forked_by, __ATOMIC_RELAXED);
    if (frame && pthread_equal(by, pthread_self()) && hooks_frame() == frame) return 1;
    return clock_ns() - __atomic_load_n(&forked_ns, __ATOMIC_RELAXED) >= AFTER_FORK_NS;
}

void watcher_restart(void)
{
    if (!watcher_missing() || was_refused() || !fork_is_through()) return;
    pthread_mutex_lock(&door);
    if (watcher_missing() && !forking) create_locked();
    pthread_mutex_unlock(&door);
}

void watcher_raise(uint32_t reasons)
{
    int saved = errno;
    __atomic_fetch_or(&raised, reasons, __ATOMIC_RELEASE);
    ring();
    errno = saved;
}

/* --- fork ------------------------------------------------------------------------------------- */

static int restart_soon(void *unused);

static void ask_to_restart(void)
{
    if (__atomic_exchange_n(&asked, 1, __ATOMIC_RELAXED)) return;
    if (hooks_call_after_fork(restart_soon) != 0) __atomic_store_n(&asked, 0, __ATOMIC_RELAXED);
}

static int restart_soon(void *unused)
{
    (void)unused;
    __atomic_store_n(&asked, 0, __ATOMIC_RELAXED);
    /* Read first: late enough to ask no more is then late enough to be through. */
    int asks = !in_child || clock_ns() - forked_ns < ASK_NS;
    watcher_restart();
    if (watcher_missing() && asks && !was_refused()) ask_to_restart(); /* still inside the fork */
    return 0;
}

void watcher_before_fork(void)
{
    pthread_mutex_lock(&door);
    forking++;
    __atomic_store_n(&forked_frame, hooks_frame(), __ATOMIC_RELAXED);
    __atomic_store_n(&forked_by, pthread_self(), __ATOMIC_RELAXED);
    end_locked();
    pthread_mutex_unlock(&door);
}

void watcher_after_fork_in_parent(void)
{
    pthread_mutex_lock(&door);
    forking--;
    __atomic_store_n(&forked_ns, clock_ns(), __ATOMIC_RELAXED);
    pthread_mutex_unlock(&door);
    if (watcher_missing()) ask_to_restart();
}

void watcher_after_fork_in_child(void)
{
    pthread_mutex_init(&door, NULL);
    forking = 0;
    asked = is_watcher = first_ended = 0;
    if (first_key_made) pthread_setspecific(first_key, &first_key);
    forked_ns = clock_ns();
    in_child = 1;
    raised = 0; /* the parent's */
    refused_ns = 0;
    state = ((state >> 8) + 1) << 8 | ABSENT;
    watch_reset(1);
}

/* --- the door ----------------------------------------------------------------------------------- */

void fa_set_work(fa_work function)
{
    __atomic_store_n(&work, function, __ATOMIC_RELEASE);
}

void fa_work_due(uint64_t delay_ns)
{
    due_by(after(delay_ns));
    ring();
}

int fa_watcher_join(uint64_t wait_ns)
{
    uint64_t until = after(wait_ns);
    if (is_watcher) return 0;
    for (;;) {
        pthread_mutex_lock(&door);
        int gone = end_locked();
        pthread_mutex_unlock(&door);
        if (gone || clock_ns() >= until) return gone;
        struct timespec nap = {.tv_nsec = 500000};
        nanosleep(&nap, NULL);
    }
}

int fa_watcher_restart(void)
{
    recording_settle(FA_SETTLE_NS);
    watcher_restart();
    return !watcher_missing();
}

void fa_watcher_restart_soon(void)
{
    if (watcher_missing()) ask_to_restart();
}
