/* The watcher beside starts, stops, forks and work that takes its time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "recording.h"
#include "watcher.h"

static void nap(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

/* Threads of this process with the watcher's name; a sanitizer has threads of its own. */
static int watchers(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof name, file) && strcmp(name, "fastalloc\n") == 0) count++;
        if (file) fclose(file);
    }
    closedir(folder);
    return count;
}

/* A thread names itself a little after it was created. */
static int watchers_become(int wanted)
{
    for (int i = 0; i < 1000 && watchers() != wanted; i++) nap(0.002);
    return watchers() == wanted;
}

static uint32_t reasons_seen;
static int calls, at_work;
static double work_seconds;
static uint64_t next_ns = UINT64_MAX;

static uint64_t work(uint32_t reasons)
{
    __atomic_store_n(&at_work, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&reasons_seen, reasons, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (work_seconds > 0) nap(work_seconds);
    __atomic_store_n(&at_work, 0, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&next_ns, __ATOMIC_SEQ_CST);
}

static int calls_now(void)
{
    return __atomic_load_n(&calls, __ATOMIC_SEQ_CST);
}

static int seen(uint32_t reasons)
{
    for (int i = 0; i < 1000; i++, nap(0.002))
        if ((__atomic_load_n(&reasons_seen, __ATOMIC_SEQ_CST) & reasons) == reasons) return 1;
    return 0;
}

static void work_is_called_for_its_reasons_and_by_the_clock(void)
{
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    CHECK(watchers_become(1));
    CHECK_EQUAL(calls_now(), 0);
    watcher_raise(FA_REASON_WARNED);
    CHECK(seen(FA_REASON_WARNED));
    CHECK(!(__atomic_load_n(&reasons_seen, __ATOMIC_SEQ_CST) & ~(uint32_t)FA_REASON_WARNED));
    __atomic_store_n(&next_ns, 5000000, __ATOMIC_SEQ_CST);
    fa_work_due(0);
    CHECK(seen(FA_REASON_TIMER));
    int before = calls_now();
    nap(0.2);
    CHECK(calls_now() >= before + 3); /* 40 but for a busy machine */
    fa_stop(0);
    CHECK(watchers_become(0));
    before = calls_now();
    nap(0.05);
    CHECK_EQUAL(calls_now(), before);
}

static void a_request_and_the_control_word_wake_python(void)
{
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    CHECK(watchers_become(1));
    nap(0.05); /* it has looked once */
    __atomic_add_fetch(&fa.header->dump_requests, 1, __ATOMIC_SEQ_CST);
    CHECK(seen(FA_REASON_DUMP));
    __atomic_add_fetch(&fa.header->resident_requests, 1, __ATOMIC_SEQ_CST);
    CHECK(seen(FA_REASON_RESIDENT));
    __atomic_store_n(&fa.header->control, FA_CONTROL_DISABLE, __ATOMIC_SEQ_CST);
    CHECK(seen(FA_REASON_CONTROL));
    CHECK(!fa_is_active()); /* without a single allocation */
    CHECK_EQUAL(calls_now(), 3);
    __atomic_store_n(&reasons_seen, 0, __ATOMIC_SEQ_CST);
    CHECK(seen(FA_REASON_CONTROL)); /* work() did not do it; or it is asked for a second time */
    __atomic_store_n(&fa.header->mode, FA_MODE_DISABLED, __ATOMIC_SEQ_CST);
    nap(0.05); /* a look that is under way */
    __atomic_store_n(&reasons_seen, 0, __ATOMIC_SEQ_CST);
    nap(1.2);
    CHECK_EQUAL(__atomic_load_n(&reasons_seen, __ATOMIC_SEQ_CST), 0); /* done */
    char file[sizeof fa.directory + 16];
    snprintf(file, sizeof file, "%s/disabled", fa.directory);
    FILE *made = fopen(file, "w");
    CHECK(made && fclose(made) == 0);
    CHECK(seen(FA_REASON_CONTROL));
    unlink(file);
    __atomic_store_n(&reasons_seen, 0, __ATOMIC_SEQ_CST);
    CHECK(seen(FA_REASON_CONTROL));
    fa_stop(0);
}

static void starts_and_stops_leave_no_thread(void)
{
    work_seconds = 0.001;
    fa_set_work(work);
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(test_start(1000), FA_OK);
        if (i % 2) fa_work_due(0);
        if (i % 3) watcher_raise(FA_REASON_DUMP);
        if (i % 5 == 0) nap(0.002);
        CHECK_EQUAL(fa_stop(0), FA_OK);
    }
    CHECK(watchers_become(0));
}

static void a_busy_one_is_given_up_and_another_takes_its_place(void)
{
    work_seconds = 0.5;
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    watcher_raise(FA_REASON_TRIPPED);
    CHECK(seen(FA_REASON_TRIPPED));
    CHECK_EQUAL(fa_watcher_join(10000000), 0);
    fa_stop(0); /* does not wait */
    CHECK_EQUAL(__atomic_load_n(&at_work, __ATOMIC_SEQ_CST), 1);
    CHECK_EQUAL(test_start(1000), FA_OK);
    CHECK(watchers_become(2));
    CHECK(watchers_become(1)); /* the old one has finished its work and gone */
    CHECK_EQUAL(calls_now(), 1);
    CHECK_EQUAL(fa_watcher_join(0), 1);
    CHECK(watchers_become(0));
    fa_stop(0);
}

static void a_join_waits_for_the_work(void)
{
    work_seconds = 0.1;
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    watcher_raise(FA_REASON_TRIPPED);
    CHECK(seen(FA_REASON_TRIPPED));
    CHECK_EQUAL(fa_watcher_join(5000000000ull), 1);
    CHECK_EQUAL(__atomic_load_n(&at_work, __ATOMIC_SEQ_CST), 0);
    CHECK(watchers_become(0));
    CHECK_EQUAL(fa_watcher_restart(), 1);
    CHECK(watchers_become(1));
    fa_stop(0);
}

static void a_fork_finds_none_and_both_sides_get_one_again(void)
{
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    CHECK(watchers_become(1));
    pid_t pid = fork();
    CHECK(watchers_become(0));
    if (pid == 0) {
        CHECK(watcher_missing());
        CHECK(!recording_settled()); /* it may be about to become another program */
        nap(0.001);
        CHECK_EQUAL(fa_watcher_restart(), 1);
        CHECK(watchers_become(1));
        for (int i = 0; i < 500 && !recording_settled(); i++) nap(0.01);
        CHECK(recording_settled()); /* by the watcher's clock */
        watcher_raise(FA_REASON_DUMP);
        CHECK(seen(FA_REASON_DUMP));
        fa_stop(0);
        CHECK_EQUAL(watchers(), 0);
        _exit(0);
    }
    nap(0.001);
    CHECK(fake_pending_call()); /* as the interpreter would, between two instructions */
    CHECK(watchers_become(1));
    int status;
    waitpid(pid, &status, 0);
    CHECK_EQUAL(status, 0);
    fa_stop(0);
}

static void a_fork_leaves_a_busy_one_alone(void)
{
    work_seconds = 0.3;
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    watcher_raise(FA_REASON_TRIPPED);
    CHECK(seen(FA_REASON_TRIPPED));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQUAL(watchers(), 0);
#ifndef __SANITIZE_THREAD__ /* which takes the parent's thread for one of the child's */
        fa_settle();
        nap(0.001);
        CHECK_EQUAL(fa_watcher_restart(), 1);
        CHECK(watchers_become(1));
        fa_stop(0);
#endif
        _exit(0);
    }
    CHECK_EQUAL(__atomic_load_n(&at_work, __ATOMIC_SEQ_CST), 1);
    CHECK_EQUAL(watchers(), 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(fa_watcher_join(5000000000ull), 1);
    fa_stop(0);
}

static void *raise_many(void *unused)
{
    for (int i = 0; i < 2000; i++) watcher_raise(1u << (i % 5));
    return unused;
}

static void *fork_some(void *unused)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(0);
        waitpid(pid, NULL, 0);
        nap(0.001);
        fake_pending_call();
    }
    return unused;
}

static void it_survives_raises_forks_and_restarts_at_once(void)
{
    fa_set_work(work);
    CHECK_EQUAL(test_start(1000), FA_OK);
    pthread_t ids[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&ids[i], NULL, i ? raise_many : fork_some, NULL) == 0);
    for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
    nap(0.001);
    fa_watcher_restart();
    CHECK(watchers_become(1));
    CHECK(seen(31));
    fa_stop(0);
    CHECK(watchers_become(0));
}

const struct test_case watcher_cases[] = {
    {"work is called for its reasons and by the clock", work_is_called_for_its_reasons_and_by_the_clock},
    {"a request and the control word wake python", a_request_and_the_control_word_wake_python},
    {"starts and stops leave no thread", starts_and_stops_leave_no_thread},
    {"a busy watcher is given up and another takes its place", a_busy_one_is_given_up_and_another_takes_its_place},
    {"a join waits for the work", a_join_waits_for_the_work},
    {"a fork finds no watcher and both sides get one again", a_fork_finds_none_and_both_sides_get_one_again},
    {"a fork leaves a busy watcher alone", a_fork_leaves_a_busy_one_alone},
    {"the watcher survives raises forks and restarts at once", it_survives_raises_forks_and_restarts_at_once},
    {NULL, NULL},
};
