/* Threads that register, allocate, switch scopes and exit, beside starts, stops and forks. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "records.h"
#include "threads.h"

static void totals_of(uint64_t *count, uint64_t *bytes)
{
    *count = fa.header->ended_count, *bytes = fa.header->ended_bytes;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++)
        if (fa.threads[i].start_ns) {
            *count += fa.threads[i].count;
            *bytes += fa.threads[i].issued - (uint64_t)fa.threads[i].left;
        }
}

static void phases_of(uint64_t *count, uint64_t *bytes)
{
    *count = *bytes = 0;
    for (uint32_t i = 0; i < REGION(FA_PHASES).used; i++)
        *count += fa.phases[i].count, *bytes += fa.phases[i].bytes;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++)
        if (fa.threads[i].start_ns) {
            *count += fa.threads[i].count - fa.threads[i].count_mark;
            *bytes += fa.threads[i].issued - (uint64_t)fa.threads[i].left - fa.threads[i].bytes_mark;
        }
}

static void *work(void *argument)
{
    uintptr_t me = (uintptr_t)argument, base = (me + 1) << 32;
    uint64_t random = me + 1;
    int functions[5], lines[5];
    struct fa_scope_totals totals;
    for (int k = 0; k < 400; k++) {
        for (int i = 0; i < 5; i++) functions[i] = (int)(test_random(&random) % 50), lines[i] = functions[i];
        fake_stack(1 + (int)(test_random(&random) % 5), functions, lines);
        char name[16];
        int bytes = snprintf(name, sizeof name, "span %d", (int)(me % 10));
        fa_scope span = fa_span_open(0, name, (size_t)bytes, "a=b", 3);
        fake_scope(span);
        fa_switch_scope(span);
        for (uintptr_t i = 0; i < 50; i++) test_allocate((void *)(base + 16 * i), 100);
        fa_scope phase = fa_phase_open(span, "phase", 5, 0);
        fake_scope(phase);
        fa_switch_scope(phase);
        for (uintptr_t i = 0; i < 50; i++) test_free((void *)(base + 16 * i));
        for (uintptr_t i = 0; i < 50; i++) test_allocate((void *)(base + 16 * i), 10);
        fa_scope_close(phase, span, &totals);
        fake_scope(span);
        if (k % 50 == 0) fa_checkpoint("here", 4);
        for (uintptr_t i = 0; i < 50; i++) test_free((void *)(base + 16 * i));
        fa_scope_close(span, 0, &totals);
        fake_scope(0);
        fa_scope_release(phase);
        fa_scope_release(span);
    }
    return NULL;
}

static void exited_threads_keep_their_totals(void)
{
    CHECK_EQUAL(test_start(500), FA_OK);
    uint64_t before, bytes_before, count, bytes;
    totals_of(&before, &bytes_before);
    enum { ROUNDS = 6, THREADS = 8 };
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t ids[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&ids[i], NULL, work, (void *)i) == 0);
        for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    }
    lock_begin();
    totals_of(&count, &bytes);
    CHECK_EQUAL(count - before, ROUNDS * THREADS * 400 * 100);
    CHECK_EQUAL(bytes - bytes_before, ROUNDS * THREADS * 400 * (50 * 100 + 50 * 10));
    uint64_t of_phases, bytes_of_phases;
    phases_of(&of_phases, &bytes_of_phases);
    CHECK_EQUAL(of_phases, count);
    CHECK_EQUAL(bytes_of_phases, bytes);
    CHECK_EQUAL(fa.header->live_samples, 0);
    CHECK_EQUAL(fa.header->live_bytes, 0);
    for (uint32_t i = 0; i < REGION(FA_SPANS).used; i++) CHECK_EQUAL(fa.spans[i].id, 0); /* all given back */
    CHECK(REGION(FA_SPANS).used <= THREADS + 2);
    lock_end();
    fa_stop(0);
}

static void *churn(void *argument)
{
    uintptr_t me = (uintptr_t)argument;
    for (uintptr_t i = 1; i < 20; i++) test_allocate((void *)((me << 20) + i * 16), 1000);
    for (uintptr_t i = 1; i < 20; i++) test_free((void *)((me << 20) + i * 16));
    return NULL;
}

static void thousands_of_threads_use_few_slots(void)
{
    CHECK_EQUAL(test_start(2000), FA_OK);
    uint64_t before, bytes_before, count, bytes;
    totals_of(&before, &bytes_before);
    for (int round = 0; round < 300; round++) {
        pthread_t ids[10];
        for (uintptr_t i = 0; i < 10; i++) CHECK(pthread_create(&ids[i], NULL, churn, (void *)(i + 1)) == 0);
        for (int i = 0; i < 10; i++) pthread_join(ids[i], NULL);
    }
    lock_begin();
    totals_of(&count, &bytes);
    CHECK_EQUAL(count - before, 3000 * 19);
    CHECK_EQUAL(bytes - bytes_before, 3000 * 19 * 1000);
    CHECK(REGION(FA_THREADS).used <= 20);
    CHECK_EQUAL(fa.header->losses[FA_LOSS_THREADS], 0);
    lock_end();
    fa_stop(0);
}

static int go_on;

static void *endless(void *argument)
{
    while (__atomic_load_n(&go_on, __ATOMIC_RELAXED)) work(argument);
    return NULL;
}

/* Recordings come and go under threads that allocate; each file is consistent at its end. */
static void starts_stops_and_mode_switches_under_load(void)
{
    enum { THREADS = 4 };
    pthread_t ids[THREADS];
    go_on = 1;
    CHECK_EQUAL(test_start(100), FA_OK);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&ids[i], NULL, endless, (void *)i) == 0);
    for (int round = 0; round < 60; round++) {
        usleep(3000);
        CHECK_EQUAL(fa_set_mode(FA_MODE_AGGRESSIVE, 50), FA_OK);
        usleep(1000);
        if (round % 5 == 0) CHECK_EQUAL(fa_set_mode(FA_MODE_DISABLED, 50), FA_OK);
        CHECK_EQUAL(fa_set_mode(FA_MODE_LIGHT, 200), FA_OK);
        static _Alignas(struct fa_header) char copy[32 << 20];
        CHECK_EQUAL(fa_copy_recording(copy, sizeof copy), FA_OK);
        const struct fa_header *header = (const void *)copy;
        const struct fa_live *live = (const void *)(copy + header->regions[FA_LIVE].offset);
        uint64_t sum = 0;
        for (uint64_t i = 1; i < header->regions[FA_LIVE].used; i++) sum += live[i].address ? live[i].weight : 0;
        CHECK_EQUAL(sum, header->live_bytes);
        CHECK_EQUAL(fa_stop(0), FA_OK);
        remove(fa_recording_path());
        CHECK_EQUAL(test_start(round % 2 ? 100 : 3000), FA_OK);
    }
    __atomic_store_n(&go_on, 0, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    fa_stop(0);
}

static void forks_under_load(void)
{
    enum { THREADS = 3 };
    pthread_t ids[THREADS];
    go_on = 1;
    CHECK_EQUAL(test_start(100), FA_OK);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&ids[i], NULL, endless, (void *)i) == 0);
    for (int round = 0; round < 30; round++) {
        usleep(1000);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            fa_settle();
            work((void *)77);
            CHECK_EQUAL(fa_stop(0), FA_OK);
            CHECK(remove(fa_recording_path()) == 0);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    __atomic_store_n(&go_on, 0, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    fa_stop(0);
}

const struct test_case thread_cases[] = {
    {"exited threads keep their totals", exited_threads_keep_their_totals},
    {"thousands of threads use few slots", thousands_of_threads_use_few_slots},
    {"starts, stops and mode switches under load", starts_stops_and_mode_switches_under_load},
    {"forks under load", forks_under_load},
    {NULL, NULL},
};
