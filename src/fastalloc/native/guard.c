#define _GNU_SOURCE
#include "guard.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "climb.h"
#include "hooks.h"
#include "recorder.h"
#include "records.h"
#include "sample.h"
#include "sampler.h"
#include "usage.h"
#include "watcher.h"

#define MIB ((uint64_t)1 << 20)
#define STEP_MOST (128 * MIB) /* a limit that was lowered is noticed within so many bytes */
#define BACK_PERCENT 5u /* below summary_percent, before a second warning may come */
#define WITNESS_NS 100000000ull /* later on, who allocates has nothing to do with it */
#define WITNESS_PART 8u /* of what is left of the limit: growth that Python's acting is not put off for */
#define WITNESS_LOOK_NS 1000000ull
#define SOONEST_NS 10000000ull
#define LATEST_NS 1000000000ull
/* 2 GiB/s, in half nanoseconds a byte: the fastest that memory was seen to be filled. */
#define FILL_NS(bytes) ((bytes) / 2)

uint32_t guard_looks;

static uint32_t summary_percent, guard_percent, rearm_percent;
static uint64_t cooldown_ns;
static uint64_t largest; /* what no allocation gets: it fails, and is none */
static uint64_t pending; /* bytes that all threads have allocated since the last reading */
static uint64_t step;    /* so many may be, before the next one */
static uint64_t told[FA_LIMITS]; /* the limits as they are known from the events */

static int witness_wanted; /* the watcher found the line crossed: who allocates next says where */
static uint64_t witness_until; /* so long Python's acting is put off for the witness; 0: it is not */
static uint64_t witness_most;  /* or until the usage is there */
static unsigned witness_limit; /* of which limit */

static int stopped;  /* sampling is, at the trip, by whoever finds it */
static int unhooked; /* and the object hooks are gone; changed with the GIL */
static uint32_t mode_before;
static uint64_t interval_before;

static int is_stopped(void)
{
    return __atomic_load_n(&stopped, __ATOMIC_ACQUIRE);
}

static void set_stopped(int now)
{
    __atomic_store_n(&stopped, now, __ATOMIC_RELEASE);
}

static uint32_t state_now(void)
{
    return __atomic_load_n(&fa.header->guard_state, __ATOMIC_ACQUIRE);
}

static int move(uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&fa.header->guard_state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static uint64_t line(uint64_t limit, uint32_t percent)
{
    return limit / 100 * percent;
}

void guard_begin(const struct fa_config *config)
{
    struct sysinfo machine;
    largest = UINT64_MAX;
    if (sysinfo(&machine) == 0) largest = (uint64_t)(machine.totalram + machine.totalswap) * machine.mem_unit;
    summary_percent = config->summary_percent;
    guard_percent = config->guard_percent;
    rearm_percent = config->guard_rearm_percent;
    cooldown_ns = config->guard_cooldown_ns;
    set_stopped(0);
    unhooked = 0;
    witness_wanted = 0;
    witness_until = 0;
    pending = 0;
    step = MIB;
    for (unsigned i = 0; i < config->limit_count && i < FA_LIMITS; i++) told[i] = config->limits[i].bytes;
    fa.header->guard_percent = guard_percent;
    fa.header->summary_percent = summary_percent;
    int on = usage_limit_count() && (guard_percent || summary_percent);
    fa.header->guard_state = on ? FA_GUARD_ARMED : FA_GUARD_OFF;
    __atomic_store_n(&guard_looks, on, __ATOMIC_RELAXED);
}

void guard_child(void)
{
    witness_wanted = 0;
    witness_until = 0;
    pending = 0;
    step = MIB;
    fa.header->guard_trips = 0;
    fa.header->guard_ns = fa.header->guard_usage_bytes = fa.header->guard_size = 0;
    if (fa.header->guard_state != FA_GUARD_OFF) fa.header->guard_state = FA_GUARD_ARMED;
    __atomic_store_n(&guard_looks, fa.header->guard_state != FA_GUARD_OFF, __ATOMIC_RELAXED);
}

/* --- what a reading says --------------------------------------------------------------------- */

struct reading {
    struct usage now;
    int warned, tripped; /* indices of the limits, -1: none */
    int is_low;          /* all are below guard_rearm_percent */
    int is_calm;         /* all are well below summary_percent */
    uint64_t left;       /* to the next line */
};

/* 1 if usage is past this line, or the coming allocation would take it there. One that the limit itself
 * would refuse takes it nowhere: it fails, which is another event. */
static int reaches(const struct reading *reading, unsigned i, uint64_t about_to)
{
    uint64_t used = reading->now.used[i], limit = reading->now.limit[i], at = line(limit, guard_percent);
    if (used >= at) return 1;
    enum fa_limit_kind kind = usage_limit_kind(i);
    int refuses = kind == FA_LIMIT_ADDRESS_SPACE || kind == FA_LIMIT_DATA;
    if (about_to >= largest || (refuses && used + about_to > limit)) return 0;
    return used + about_to >= at;
}

static int weigh(struct reading *reading, uint64_t about_to, int afresh)
{
    if (!usage_read(&reading->now, afresh)) return 0;
    __atomic_store_n(&pending, 0, __ATOMIC_RELAXED);
    reading->warned = reading->tripped = -1;
    reading->is_low = reading->is_calm = 1;
    reading->left = UINT64_MAX;
    uint32_t next = state_now() == FA_GUARD_ARMED && summary_percent ? summary_percent : guard_percent;
    uint64_t highest = 0, smallest = UINT64_MAX;
    for (unsigned i = 0; i < usage_limit_count(); i++) {
        uint64_t used = reading->now.used[i], limit = reading->now.limit[i], at = line(limit, next);
        if (!limit) continue;
        if (summary_percent && used >= line(limit, summary_percent) && reading->warned < 0) reading->warned = (int)i;
        if (guard_percent && reaches(reading, i, about_to) && reading->tripped < 0)
            reading->tripped = (int)i;
        if (used >= line(limit, rearm_percent)) reading->is_low = 0;
        if (used + line(limit, BACK_PERCENT) >= line(limit, summary_percent)) reading->is_calm = 0;
        uint64_t left = used < at ? at - used : 0;
        if (next && left < reading->left) reading->left = left;
        /* The limit that is named: the one that is fullest, but the smallest while none is half full. */
        uint64_t percent = used / (limit / 100 + 1);
        if (percent >= 50 ? percent > highest : !highest && limit < smallest) {
            __atomic_store_n(&fa.header->limit_bytes, limit, __ATOMIC_RELAXED);
            __atomic_store_n(&fa.header->limit_usage_bytes, used, __ATOMIC_RELAXED);
            __atomic_store_n(&fa.header->limit_index, i, __ATOMIC_RELAXED);
            highest = percent >= 50 ? percent : 0;
            smallest = limit;
        }
    }
    uint64_t half = reading->left / 2;
    __atomic_store_n(&step, half < MIB ? MIB : half < STEP_MOST ? half : STEP_MOST, __ATOMIC_RELAXED);
    return 1;
}

/* 0: another thread reads. No line is crossed by a limit that is not in force any more. */
static int read_usage(struct reading *reading, uint64_t about_to)
{
    if (!weigh(reading, about_to, 0)) return 0;
    if (reading->tripped < 0 || state_now() == FA_GUARD_TRIPPED) return 1;
    for (int i = 0; i < 64; i++) /* another thread may be reading: some microseconds */
        if (weigh(reading, about_to, 1)) return 1;
    return 1; /* as first read: rather a trip too many than an allocation that goes by */
}

static void tell_changes(const struct reading *reading)
{
    for (unsigned i = 0; i < usage_limit_count(); i++) {
        uint64_t old = __atomic_load_n(&told[i], __ATOMIC_RELAXED), now = reading->now.limit[i];
        if (old == now || usage_limit_kind(i) == FA_LIMIT_MACHINE) continue;
        if (!__atomic_compare_exchange_n(&told[i], &old, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
        const char *source = usage_limit_source(i);
        fa_lock();
        event_write_about(FA_EVENT_LIMIT, old, now, source, strlen(source));
        fa_unlock();
    }
}

static void stamp_trip(const struct reading *reading, uint64_t about_to)
{
    struct fa_header *header = fa.header;
    uint64_t used = reading->now.used[reading->tripped], limit = reading->now.limit[reading->tripped];
    fa_lock();
    header->limit_bytes = limit;
    header->limit_index = (uint32_t)reading->tripped;
    header->limit_usage_bytes = header->guard_usage_bytes = used;
    header->guard_size = used >= line(limit, guard_percent) ? 0 : about_to;
    header->guard_trips++;
    header->guard_ns = header->updated_ns = fa_now_ns();
    fa_unlock();
    sample_event(FA_EVENT_GUARD, FA_GUARD_TRIPPED, used);
}

/* Other threads follow within FA_DRAW_CAP bytes. The hooks stay until Python's lock is held. */
static void stop_sampling(void)
{
    fa_lock();
    if (!is_stopped()) {
        mode_before = fa.header->mode;
        interval_before = fa.header->interval_bytes;
        set_stopped(1);
    }
    climb_pause(1);
    __atomic_store_n(&fa.interval, (uint64_t)FA_PARKED, __ATOMIC_RELAXED);
    if (fa_tls.slot != &fa_nobody) sampler_redraw(fa_tls.slot, fa.interval);
    fa.header->off = FA_OFF_GUARD;
    fa_unlock();
}

/* The watcher has no stack to tell, and once Python acts the dump is made without. A thread that allocates comes by within
 * FA_DRAW_CAP bytes, which where memory climbs slowly is long after the GIL has been let go. 0: that cannot be waited for. */
static int await_witness(const struct reading *reading)
{
    uint64_t used = fa.header->guard_usage_bytes, limit = reading->now.limit[reading->tripped];
    if (used < limit) {
        witness_limit = (unsigned)reading->tripped;
        witness_most = used + (limit - used) / WITNESS_PART;
        __atomic_store_n(&witness_until, fa.header->guard_ns + WITNESS_NS, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&witness_wanted, 1, __ATOMIC_RELEASE);
    return used < limit;
}

static int is_awaited(void)
{
    struct reading reading;
    uint64_t until = __atomic_load_n(&witness_until, __ATOMIC_ACQUIRE);
    if (!until || !fa_is_active() || fa_now_ns() >= until) return 0;
    return !read_usage(&reading, 0) || reading.now.used[witness_limit] < witness_most;
}

/* 1: there was one, and Python is to act now. */
static int end_of_waiting(void)
{
    return __atomic_exchange_n(&witness_until, 0, __ATOMIC_RELAXED) != 0;
}

/* Stamps what has come to pass. The reasons that Python has to act. */
static uint32_t act(const struct reading *reading, uint64_t about_to, int by_watcher)
{
    uint32_t state = state_now();
    if (reading->tripped >= 0 && (state == FA_GUARD_ARMED || state == FA_GUARD_WARNED)) {
        if (!move(state, FA_GUARD_TRIPPED)) return 0; /* another thread does */
        if (!by_watcher) __atomic_store_n(&guard_looks, 0, __ATOMIC_RELAXED);
        stamp_trip(reading, about_to);
        stop_sampling();
        return by_watcher && await_witness(reading) ? 0 : FA_REASON_TRIPPED;
    }
    if (reading->warned >= 0 && state == FA_GUARD_ARMED && move(FA_GUARD_ARMED, FA_GUARD_WARNED)) {
        sample_event(FA_EVENT_GUARD, FA_GUARD_WARNED, reading->now.used[reading->warned]);
        return FA_REASON_WARNED;
    }
    if (state == FA_GUARD_WARNED && reading->is_calm) move(FA_GUARD_WARNED, FA_GUARD_ARMED);
    return 0;
}

/* --- who looks ------------------------------------------------------------------------------- */

static void look(uint64_t about_to)
{
    struct reading reading;
    if (fa_tls.busy || fa_barred() || !fa_is_active() || !read_usage(&reading, about_to)) return;
    fa_tls.busy = 1;
    tell_changes(&reading);
    uint32_t reasons = act(&reading, about_to, 0);
    fa_tls.busy = 0;
    if (reasons) watcher_raise(reasons);
}

static void add(uint64_t bytes, uint64_t about_to)
{
    if (__atomic_add_fetch(&pending, bytes, __ATOMIC_RELAXED) >= __atomic_load_n(&step, __ATOMIC_RELAXED))
        look(about_to);
}

/* The same event once more, with a stack. 1: Python is to act now. */
static int bear_witness(void)
{
    __atomic_store_n(&guard_looks, 0, __ATOMIC_RELAXED);
    if (fa_tls.busy || fa_barred() || !fa_is_active() || state_now() != FA_GUARD_TRIPPED) return 0;
    if (fa_now_ns() - fa.header->guard_ns > WITNESS_NS) return 0;
    fa_tls.busy = 1;
    sample_event(FA_EVENT_GUARD, FA_GUARD_TRIPPED, fa.header->guard_usage_bytes);
    fa_tls.busy = 0;
    return end_of_waiting();
}

void guard_add(struct fa_thread *thread, uint64_t about_to)
{
    if (UNLIKELY(__atomic_load_n(&witness_wanted, __ATOMIC_RELAXED))) {
        if (__atomic_exchange_n(&witness_wanted, 0, __ATOMIC_ACQUIRE) && bear_witness()) watcher_raise(FA_REASON_TRIPPED);
        return;
    }
    uint64_t bytes = sampler_bytes(thread), since = bytes - thread->seen_by_guard;
    thread->seen_by_guard = bytes;
    add((int64_t)since > 0 ? since : 0, about_to);
}

void guard_add_arena(uint64_t bytes)
{
    if (__atomic_load_n(&guard_looks, __ATOMIC_RELAXED)) add(bytes, 0);
}

uint64_t guard_poll(uint32_t *reasons)
{
    struct reading reading;
    uint32_t state = state_now();
    if (is_awaited()) return WITNESS_LOOK_NS;
    if (end_of_waiting()) *reasons |= FA_REASON_TRIPPED;
    if (state == FA_GUARD_OFF || !fa_is_active()) return LATEST_NS;
    if (!read_usage(&reading, 0)) return SOONEST_NS;
    tell_changes(&reading);
    if (is_stopped() && state == FA_GUARD_ARMED) *reasons |= FA_REASON_REARM; /* a child of a process at the line */
    if (state != FA_GUARD_TRIPPED) {
        *reasons |= act(&reading, 0, 1);
        if (__atomic_load_n(&witness_until, __ATOMIC_RELAXED)) return WITNESS_LOOK_NS;
        uint64_t next = FILL_NS(reading.left);
        return next < SOONEST_NS ? SOONEST_NS : next < LATEST_NS ? next : LATEST_NS;
    }
    if (rearm_percent && reading.is_low && fa_now_ns() - fa.header->guard_ns >= cooldown_ns) *reasons |= FA_REASON_REARM;
    return LATEST_NS;
}

/* --- the door; GIL ------------------------------------------------------------------------------ */

void fa_guard_stop_tracking(void)
{
    if (!fa.header || unhooked || !fa_is_active() || state_now() != FA_GUARD_TRIPPED) return;
    stop_sampling();
    unhooked = 1;
    /* In the filter design frees are seen by the object hooks alone: there they stay. */
    if (hooks_design() != FA_FREE_DIVERT) return;
    mode_switch(FA_MODE_STANDBY, interval_before);
    stop_sampling(); /* the switch has set the interval */
}

void fa_guard_rearm(void)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return;
    if (is_stopped()) {
        set_stopped(0);
        unhooked = 0;
        if (fa.header->off == FA_OFF_GUARD) fa.header->off = FA_OFF_NOT;
        climb_pause(0);
        if (fa_is_active()) mode_switch(mode_before, interval_before);
    }
    if (!move(FA_GUARD_TRIPPED, FA_GUARD_ARMED)) return;
    __atomic_store_n(&step, MIB, __ATOMIC_RELAXED);
    __atomic_store_n(&witness_wanted, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&witness_until, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&guard_looks, 1, __ATOMIC_RELAXED);
    fa_lock();
    event_write(FA_EVENT_GUARD, FA_GUARD_ARMED, fa.header->limit_usage_bytes, 0);
    fa_unlock();
}

void guard_forget_stop(void)
{
    set_stopped(0);
    unhooked = 0;
    climb_pause(0);
    if (fa.header->off == FA_OFF_GUARD) fa.header->off = FA_OFF_NOT;
}

int fa_guard_has_stopped(void)
{
    return is_stopped();
}

uint32_t fa_guard_mode(void)
{
    return is_stopped() ? mode_before : fa.header->mode;
}

uint32_t fa_guard_usages(uint64_t *used, uint64_t *limits)
{
    struct usage now = {0};
    /* Another thread reads just now: a few system calls, for which it needs neither lock nor GIL. */
    for (int again = 0; fa.header && !usage_read(&now, 0) && again < 1000; again++) sched_yield();
    for (unsigned i = 0; i < usage_limit_count(); i++) {
        used[i] = now.used[i];
        limits[i] = now.limit[i];
    }
    return usage_limit_count();
}

size_t fa_guard_frame(char *to, size_t capacity)
{
    int length = 0;
    if (!fa.header || !capacity) return 0;
    fa_lock();
    struct fa_region *events = &REGION(FA_EVENTS);
    for (uint64_t back = 1; back <= events->used && back <= events->capacity; back++) {
        const struct fa_event *event = RING_SLOT(fa.events, FA_EVENTS, events->used - back);
        if (event->kind != FA_EVENT_GUARD || event->a != FA_GUARD_TRIPPED) continue;
        if (event->time_ns < fa.header->guard_ns) break; /* an earlier one's */
        if (!event->node) continue;
        if (event->node < REGION(FA_NODES).used) {
            const struct fa_node *node = &fa.nodes[event->node];
            const struct fa_function *function = &fa.functions[node->function];
            size_t unused;
            length = snprintf(to, capacity, "%s (%s:%d)", fa_string(function->name, &unused),
                              fa_string(function->file, &unused), node->line);
        }
        break;
    }
    fa_unlock();
    return length < 0 ? 0 : (size_t)length < capacity ? (size_t)length : capacity - 1;
}
