/* The guard against a cgroup made of files: what it stamps, who notices, and when. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "guard.h"
#include "records.h"

#define LIMIT 1000000000ull

static char usage_path[300];

static void write_file(const char *name, unsigned long long number, const char *prefix)
{
    char path[300], temporary[310];
    snprintf(path, sizeof path, "%s/%s", test_directory, name);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    FILE *file = fopen(temporary, "w");
    CHECK(file != NULL);
    fprintf(file, "%s%llu\n", prefix, number);
    fclose(file);
    /* Over the old contents, not in their place: the guard keeps the file open. */
    file = fopen(path, "r+");
    if (!file) CHECK(rename(temporary, path) == 0);
    else {
        fprintf(file, "%s%-12llu\n", prefix, number);
        fclose(file);
        unlink(temporary);
    }
}

static void use(unsigned long long bytes)
{
    write_file("memory.current", bytes, "");
}

static uint32_t reasons_seen;

static uint64_t work(uint32_t reasons)
{
    __atomic_fetch_or(&reasons_seen, reasons, __ATOMIC_SEQ_CST);
    return UINT64_MAX;
}

static void begin(uint32_t rearm_percent)
{
    snprintf(usage_path, sizeof usage_path, "%s/memory.current", test_directory);
    use(100000000);
    write_file("memory.stat", 1000000, "anon 5\ninactive_file ");
    struct fa_limit limit = {.bytes = LIMIT, .kind = FA_LIMIT_CGROUP, .usage_path = usage_path};
    struct fa_config config = {
        .directory = test_directory, .options = "{}", .mode = FA_MODE_LIGHT, .interval_bytes = 512 << 10,
        .max_frames = 64, .scale = 1, .python_version = 0x030b07f0, .limits = &limit, .limit_count = 1,
        .cgroup_usage_path = usage_path, .summary_percent = 75, .guard_percent = 90,
        .guard_rearm_percent = rearm_percent,
    };
    fa_set_work(work);
    CHECK_EQUAL(fa_start(&config), FA_OK);
    fa_watcher_join(1000000000); /* these tests look by themselves */
}

static uint32_t state_now(void)
{
    return __atomic_load_n(&fa.header->guard_state, __ATOMIC_SEQ_CST);
}

static void allocate_mib(int count)
{
    for (int i = 0; i < count; i++) test_allocate((void *)(uintptr_t)(4096 * (i + 1)), 1 << 20);
}

static void allocations_find_each_line(void)
{
    begin(50);
    allocate_mib(400); /* more than half of what is left to 75 %: it reads */
    CHECK_EQUAL(state_now(), FA_GUARD_ARMED);
    use(752000000);
    allocate_mib(400);
    CHECK_EQUAL(state_now(), FA_GUARD_WARNED); /* 75.1 % with the page cache off */
    use(899500000);
    allocate_mib(100);
    CHECK_EQUAL(state_now(), FA_GUARD_WARNED); /* 89.85 % with the page cache off, and a MiB to come */
    use(905000000);
    allocate_mib(2);
    CHECK_EQUAL(state_now(), FA_GUARD_TRIPPED);
    CHECK_EQUAL(fa.header->guard_trips, 1);
    CHECK_EQUAL(fa.header->guard_usage_bytes, 904000000);
    CHECK_EQUAL(fa.header->guard_size, 0);
    struct fa_event *last = RING_SLOT(fa.events, FA_EVENTS, REGION(FA_EVENTS).used - 1);
    CHECK_EQUAL(last->kind, FA_EVENT_GUARD);
    CHECK_EQUAL(last->a, FA_GUARD_TRIPPED);
    fa_stop(0);
}

static void one_large_allocation_is_seen_before_it_is_made(void)
{
    begin(50);
    test_allocate((void *)4096, 700000000);
    CHECK_EQUAL(state_now(), FA_GUARD_ARMED);
    test_allocate((void *)8192, 850000000);
    CHECK_EQUAL(state_now(), FA_GUARD_TRIPPED);
    CHECK_EQUAL(fa.header->guard_size, 850000000);
    CHECK(fa.header->guard_usage_bytes < LIMIT / 2);
    fa_stop(0);
}

static void it_stops_and_rearms(void)
{
    uint32_t reasons = 0;
    begin(50);
    use(950000000);
    CHECK(guard_poll(&reasons) <= 1000000ull);
    CHECK_EQUAL(reasons, 0); /* until somebody bears witness, or so much more is taken */
    CHECK_EQUAL(state_now(), FA_GUARD_TRIPPED);
    use(956000000);
    CHECK(guard_poll(&reasons) <= 1000000ull);
    CHECK_EQUAL(reasons, 0);
    use(957000000);
    CHECK(guard_poll(&reasons) <= 1000000000ull);
    CHECK_EQUAL(reasons, FA_REASON_TRIPPED);
    fa_guard_stop_tracking();
    CHECK_EQUAL(fa_guard_has_stopped(), 1);
    CHECK_EQUAL(fa.header->mode, FA_MODE_STANDBY);
    CHECK_EQUAL(fa_guard_mode(), FA_MODE_LIGHT);
    uint64_t samples = fa.header->samples;
    allocate_mib(300);
    CHECK(fa.header->samples <= samples + 1);
    reasons = 0;
    guard_poll(&reasons);
    CHECK_EQUAL(reasons, 0);
    use(400000000);
    guard_poll(&reasons);
    CHECK_EQUAL(reasons, FA_REASON_REARM);
    fa_guard_rearm();
    CHECK_EQUAL(state_now(), FA_GUARD_ARMED);
    CHECK_EQUAL(fa.header->mode, FA_MODE_LIGHT);
    CHECK_EQUAL(fa_guard_has_stopped(), 0);
    allocate_mib(300);
    CHECK(fa.header->samples > samples + 100);
    fa_stop(0);
}

static void who_allocates_next_bears_witness_of_what_the_watcher_found(void)
{
    uint32_t reasons = 0;
    begin(50);
    use(950000000);
    guard_poll(&reasons);
    uint64_t events = REGION(FA_EVENTS).used;
    allocate_mib(3);
    CHECK_EQUAL(REGION(FA_EVENTS).used, events + 1);
    struct fa_event *last = RING_SLOT(fa.events, FA_EVENTS, events);
    CHECK_EQUAL(last->kind, FA_EVENT_GUARD);
    CHECK_EQUAL(last->a, FA_GUARD_TRIPPED);
    CHECK_EQUAL(fa.header->guard_trips, 1);
    CHECK(guard_poll(&reasons) > 1000000ull); /* nothing is waited for: the witness has told Python */
    CHECK_EQUAL(reasons, 0);
    fa_stop(0);
}

static void where_nobody_bears_witness_python_acts_a_little_later(void)
{
    uint32_t reasons = 0;
    begin(50);
    use(950000000);
    guard_poll(&reasons);
    CHECK_EQUAL(reasons, 0);
    struct timespec nap = {.tv_nsec = 1000000};
    uint32_t seen = 0; /* the watcher's own look may be the one that ends the waiting */
    for (int i = 0; i < 1000 && !seen; i++) {
        nanosleep(&nap, NULL);
        guard_poll(&reasons);
        seen = reasons | __atomic_load_n(&reasons_seen, __ATOMIC_SEQ_CST);
    }
    CHECK_EQUAL(seen, FA_REASON_TRIPPED);
    CHECK(fa_now_ns() - fa.header->guard_ns >= 100000000ull);
    fa_stop(0);
}

static void *allocate_much(void *argument)
{
    uintptr_t base = ((uintptr_t)argument + 1) << 40;
    for (uintptr_t i = 0; i < 3000; i++) {
        test_allocate((void *)(base + 4096 * (i % 50 + 1)), 200000);
        test_free((void *)(base + 4096 * (i % 50 + 1)));
    }
    return NULL;
}

static void *climb(void *unused)
{
    for (unsigned long long percent = 10; percent < 99; percent++) {
        use(percent * (LIMIT / 100));
        struct timespec nap = {.tv_nsec = 1000000};
        nanosleep(&nap, NULL);
    }
    return unused;
}

static void many_threads_and_the_watcher_stamp_one_trip(void)
{
    begin(0);
    CHECK_EQUAL(fa_watcher_restart(), 1);
    pthread_t ids[6];
    for (uintptr_t i = 0; i < 6; i++)
        CHECK(pthread_create(&ids[i], NULL, i ? allocate_much : climb, (void *)i) == 0);
    for (int i = 0; i < 6; i++) pthread_join(ids[i], NULL);
    allocate_mib(500);
    CHECK_EQUAL(state_now(), FA_GUARD_TRIPPED);
    CHECK_EQUAL(fa.header->guard_trips, 1);
    fa_watcher_join(1000000000);
    fa_guard_stop_tracking();
    fa_stop(0);
}

const struct test_case guard_cases[] = {
    {"allocations find each line of the guard", allocations_find_each_line},
    {"one large allocation is seen before it is made", one_large_allocation_is_seen_before_it_is_made},
    {"the guard stops tracking and is armed again", it_stops_and_rearms},
    {"who allocates next bears witness of what the watcher found", who_allocates_next_bears_witness_of_what_the_watcher_found},
    {"where nobody bears witness Python acts a little later", where_nobody_bears_witness_python_acts_a_little_later},
    {"many threads and the watcher stamp one trip", many_threads_and_the_watcher_stamp_one_trip},
    {NULL, NULL},
};
