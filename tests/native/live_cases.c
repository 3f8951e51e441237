/* The live table when it is full, and its filter under concurrent eyes. */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "live.h"
#include "sampler.h"
#include "scopes.h"

static struct fa_live sample_of(uint64_t size, uint64_t weight)
{
    return (struct fa_live){.size = size, .weight = weight, .domain = FA_DOMAIN_RAW, .generation = fa.generation};
}

/* 100,000 blocks of several sizes through a table for 500: it thins itself out, eight times or
 * so. Over many runs each size's sum of weights is right on average. */
static void a_full_table_is_thinned_without_bias(void)
{
    static const uint64_t sizes[] = {24, 300, 5000, 60000};
    double off[4] = {0}, squared[4] = {0};
    uint64_t random = 4711;
    enum { RUNS = 300, BLOCKS = 20000 };
    for (int run = 0; run < RUNS; run++) {
        CHECK_EQUAL(test_start(1000), FA_OK);
        fa.header->regions[FA_LIVE].capacity = 500;
        double truth[4] = {0}, sum[4] = {0};
        struct fa_thread thread = {0};
        sampler_begin(&thread, fa.interval, 100 + (uint64_t)run);
        for (uintptr_t k = 1; k <= BLOCKS; k++) {
            int kind = (int)(test_random(&random) % 4);
            truth[kind] += (double)sizes[kind];
            if ((thread.left -= (int64_t)sizes[kind]) >= 0) continue;
            uint64_t weight = sampler_due(&thread, sizes[kind]);
            sampler_refill(&thread, fa.interval);
            if (!weight) continue;
            struct fa_live sample = sample_of(sizes[kind], weight);
            lock_begin();
            live_add(k * 16, &sample);
            lock_end();
        }
        CHECK(fa.interval > 1000);
        uint64_t live_bytes = 0, live_samples = 0;
        for (uint32_t slot = 1; slot < REGION(FA_LIVE).used; slot++) {
            const struct fa_live *sample = &fa.live[slot];
            if (!sample->address) continue;
            live_bytes += sample->weight, live_samples++;
            for (int kind = 0; kind < 4; kind++)
                if (sample->size == sizes[kind]) sum[kind] += (double)sample->weight;
        }
        CHECK_EQUAL(live_bytes, fa.header->live_bytes);
        CHECK_EQUAL(live_samples, fa.header->live_samples);
        CHECK_EQUAL(fa.header->losses[FA_LOSS_LIVE], 0);
        for (int kind = 0; kind < 4; kind++) {
            double relative = sum[kind] / truth[kind] - 1;
            off[kind] += relative, squared[kind] += relative * relative;
        }
        CHECK_EQUAL(fa_stop(0), FA_OK);
        remove(fa_recording_path());
    }
    for (int kind = 0; kind < 4; kind++) {
        double mean = off[kind] / RUNS, error = sqrt((squared[kind] / RUNS - mean * mean) / RUNS);
        CHECK(error < (kind ? 0.1 : 0.3)); /* few of the small ones are left */
        CHECK_NEAR(mean, 0, error);
    }
}

static void samples_that_cannot_be_thinned_are_lost_and_counted(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    fa.header->regions[FA_LIVE].capacity = 100;
    lock_begin();
    for (uintptr_t k = 1; k <= 119; k++) {
        struct fa_live sample = sample_of((uint64_t)1 << 40, (uint64_t)1 << 40);
        live_add(k * 16, &sample);
    }
    lock_end();
    CHECK_EQUAL(fa.header->live_samples, 99);
    CHECK_EQUAL(fa.header->losses[FA_LOSS_LIVE], 20);
    CHECK_EQUAL(fa.interval, 1 << 20); /* doubled at each */
    struct fa_live taken;
    lock_begin();
    for (uintptr_t k = 1; k <= 119; k++) CHECK_EQUAL(live_take(k * 16, &taken), k <= 99);
    lock_end();
    CHECK_EQUAL(fa.header->live_bytes, 0);
    fa_stop(0);
}

/* What the guard's stop leaves is what it is there to show. Pieces of mappings unmapped in part may still come. */
static void nothing_is_thinned_while_tracking_is_stopped(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    fa.header->regions[FA_LIVE].capacity = 100;
    lock_begin();
    struct fa_live sample = sample_of(5000, 5034);
    for (uintptr_t k = 1; k <= 99; k++) live_add(k * 16, &sample);
    fa.interval = (uint64_t)FA_PARKED;
    live_add(100 * 16, &sample);
    lock_end();
    CHECK_EQUAL(fa.header->live_samples, 99);
    CHECK_EQUAL(fa.header->losses[FA_LOSS_LIVE], 1);
    CHECK_EQUAL(fa.header->interval_bytes, 1000);
    fa_stop(0);
}

/* --- the filter ---------------------------------------------------------------------------- */

enum { LASTING = 300, WRITERS = 3 };
static uintptr_t lasting[LASTING];
static int go_on;

static void *look(void *unused)
{
    (void)unused;
    while (__atomic_load_n(&go_on, __ATOMIC_RELAXED))
        for (int i = 0; i < LASTING; i++) CHECK(live_maybe((void *)lasting[i]));
    return NULL;
}

static void *change(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument;
    uintptr_t held[3000] = {0};
    struct fa_live taken;
    for (int k = 0; k < 150000; k++) {
        uint64_t r = test_random(&random);
        uintptr_t *slot = &held[r % (k < 75000 ? 3000 : 100)]; /* the table grows, then empties */
        lock_begin();
        if (*slot) {
            CHECK(live_take(*slot, &taken));
            if (r >> 20 & 1) live_restore(&taken);
            else *slot = 0;
        } else {
            *slot = ((uintptr_t)argument << 40) + ((r >> 24) % 100000 + 1) * 16;
            struct fa_live sample = sample_of(64, 64);
            if (live_take(*slot, &taken)) live_restore(&taken), *slot = 0; /* another slot's block */
            else live_add(*slot, &sample);
        }
        lock_end();
        if (*slot) CHECK(live_maybe((void *)*slot));
    }
    return NULL;
}

static void the_filter_never_misses_a_block_while_others_come_and_go(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    /* Blocks whose homes lie close together, so that removals of others move them about. */
    uint64_t random = 5;
    lock_begin();
    for (int i = 0; i < LASTING; i++) {
        do lasting[i] = (test_random(&random) | 1) << 16 >> 4 << 4;
        while (live_hash(lasting[i]) >> 52 > 200);
        struct fa_live sample = sample_of(32, 32);
        live_add(lasting[i], &sample);
    }
    lock_end();
    pthread_t readers[2], writers[WRITERS];
    go_on = 1;
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&readers[i], NULL, look, NULL) == 0);
    for (uintptr_t i = 0; i < WRITERS; i++) CHECK(pthread_create(&writers[i], NULL, change, (void *)(i + 1)) == 0);
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
    __atomic_store_n(&go_on, 0, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) pthread_join(readers[i], NULL);
    struct fa_live taken;
    lock_begin();
    for (int i = 0; i < LASTING; i++) CHECK(live_take(lasting[i], &taken) && taken.size == 32);
    lock_end();
    fa_stop(0);
}

/* Private, so nothing of a recording's file: each would stay for good. */
static void recordings_take_the_index_of_earlier_ones_and_find_it_empty(void)
{
    enum { BLOCKS = 3000 }; /* the index grows three times */
    struct live_index *smallest = NULL, *largest = NULL;
    for (int recording = 0; recording < 3; recording++) {
        CHECK_EQUAL(test_start(1), FA_OK);
        if (!recording) smallest = live_index_current;
        CHECK(live_index_current == smallest);
        lock_begin();
        struct fa_live sample = sample_of(32, 32), taken;
        for (uintptr_t k = 1; k <= BLOCKS; k++) CHECK(!live_maybe((void *)(k * 16)) && !live_take(k * 16, &taken));
        for (uintptr_t k = 1; k <= BLOCKS; k++) {
            live_add(k * 16, &sample);
            CHECK(live_maybe((void *)(k * 16)));
        }
        if (!recording) largest = live_index_current;
        CHECK(live_index_current == largest && largest->mask == 8 * smallest->mask + 7);
        for (uintptr_t k = 1; k <= BLOCKS; k += 2) CHECK(live_take(k * 16, &taken)); /* the others stay in it */
        lock_end();
        fa_stop(0);
    }
}

const struct test_case live_cases[] = {
    {"recordings take the index of earlier ones and find it empty",
     recordings_take_the_index_of_earlier_ones_and_find_it_empty},
    {"a full table is thinned without bias", a_full_table_is_thinned_without_bias},
    {"samples that cannot be thinned are lost and counted", samples_that_cannot_be_thinned_are_lost_and_counted},
    {"nothing is thinned while tracking is stopped", nothing_is_thinned_while_tracking_is_stopped},
    {"the filter never misses a block while others come and go",
     the_filter_never_misses_a_block_while_others_come_and_go},
    {NULL, NULL},
};
