/* The sampler's statistics: what is taken is taken with the right probability, and weights add up
 * to the truth, in every circumstance in which a draw is cut, capped or made anew. */
#include "check.h"
#include "sampler.h"

#define MEBI ((uint64_t)1 << 20)

/* One allocation, as a hook counts it: what it stands for, 0 if it is no sample. */
static uint64_t allocate(struct fa_thread *thread, uint64_t size, uint64_t interval)
{
    thread->count++;
    if ((thread->left -= (int64_t)size) >= 0) return 0;
    uint64_t weight = sampler_due(thread, size);
    sampler_refill(thread, interval);
    return weight;
}

static struct fa_thread begin(uint64_t interval, uint64_t seed)
{
    struct fa_thread thread = {0};
    sampler_begin(&thread, interval, seed);
    return thread;
}

/* How likely an allocation of `size` is to be sampled, on average over the places where it may lie in a stratum, and
 * the variance of its estimate likewise. Place by place, as sampler.h has it. */
static double chance(uint64_t size, uint64_t interval, double *variance)
{
    double sum = 0, t = (double)interval, s = (double)size;
    uint64_t step = interval > 4096 ? interval / 4096 : 1, places = 0; /* else too slow: close enough */
    *variance = 0;
    for (uint64_t at = 0; at < interval; at += step, places++) {
        uint64_t end = at + size, first = end < interval ? size : interval - at, last = end < interval ? 0 : end - interval;
        double none = first >= interval || last >= interval ? 0 : (1 - (double)first / t) * (1 - (double)last / t);
        sum += 1 - none;
        *variance += s * s * none / (1 - none);
    }
    *variance /= (double)places;
    return sum / (double)places;
}

static void is_sampled_with_the_probability_of_its_size(void)
{
    static const uint64_t sizes[] = {1, 8, 48, 512, 4000, 100000, 3000000};
    static const uint64_t intervals[] = {2, 100, 4096, 65536, 524288, 8 * MEBI};
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 6; j++) {
            struct fa_thread thread = begin(intervals[j], 1000u * (unsigned)i + (unsigned)j);
            double variance, p = chance(sizes[i], intervals[j], &variance);
            uint64_t n = 2000000, taken = 0;
            for (uint64_t k = 0; k < n; k++) taken += allocate(&thread, sizes[i], intervals[j]) != 0;
            double error = sqrt((double)n * p * (1 - p)) + 1e-9;
            if (error < 1) CHECK(fabs((double)taken - (double)n * p) < 20);
            else CHECK_NEAR(taken, (double)n * p, error);
            CHECK_EQUAL(sampler_bytes(&thread), n * sizes[i]);
        }
}

/* Sizes of all kinds in one stream; each kind is estimated without bias. The interval in force
 * changes after every `change_every` allocations (0: never). */
static void estimate_stream(const uint64_t *intervals, int interval_count, int change_every, uint64_t seed)
{
    static const uint64_t sizes[] = {16, 56, 500, 513, 5000, 65536, 700000, 5000000};
    struct fa_thread thread = begin(intervals[0], seed);
    double truth[8] = {0}, sum[8] = {0}, variance[8] = {0}, expected[8] = {0};
    double p[8][3], one[8][3];
    for (int kind = 0; kind < 8; kind++)
        for (int i = 0; i < interval_count; i++) p[kind][i] = chance(sizes[kind], intervals[i], &one[kind][i]);
    uint64_t random = seed + 7, total = 0, interval = intervals[0];
    for (int k = 0; k < 4000000; k++) {
        if (change_every && k % change_every == 0) interval = intervals[k / change_every % interval_count];
        uint64_t r = test_random(&random);
        int kind = (int)(r % 1000 ? (r >> 10) % 5 : 5 + (r >> 10) % 3); /* large ones are rare */
        int in_force = 0;
        while (intervals[in_force] != thread.interval) in_force++;
        sum[kind] += (double)allocate(&thread, sizes[kind], interval);
        truth[kind] += (double)sizes[kind];
        total += sizes[kind];
        expected[kind] += p[kind][in_force];
        variance[kind] += one[kind][in_force];
    }
    for (int kind = 0; kind < 8; kind++) /* a handful of samples is not normally distributed yet */
        if (expected[kind] > 50) CHECK_NEAR(sum[kind], truth[kind], sqrt(variance[kind]) + 1);
    CHECK_EQUAL(sampler_bytes(&thread), total);
    CHECK_EQUAL(thread.count, 4000000);
}

static void weights_add_up_to_the_bytes_of_each_size(void)
{
    for (uint64_t seed = 1; seed < 6; seed++) {
        estimate_stream((uint64_t[]){524288}, 1, 0, seed);
        estimate_stream((uint64_t[]){1000}, 1, 0, seed);
    }
}

static void a_draw_longer_than_the_cap_is_handed_out_in_pieces(void)
{
    for (uint64_t seed = 1; seed < 6; seed++) estimate_stream((uint64_t[]){16 * MEBI}, 1, 0, seed);
    struct fa_thread thread = begin(64 * MEBI, 3);
    for (int k = 0; k < 100000; k++) {
        CHECK(thread.left <= FA_DRAW_CAP);
        CHECK(thread.residual >= 0 || thread.interval <= 1);
        allocate(&thread, 1000, 64 * MEBI);
    }
}

static void the_interval_may_change_at_any_time(void)
{
    for (uint64_t seed = 1; seed < 6; seed++) {
        estimate_stream((uint64_t[]){524288, 65536}, 2, 1000, seed);
        estimate_stream((uint64_t[]){16 * MEBI, 4096, 524288}, 3, 10007, seed);
        estimate_stream((uint64_t[]){1, 100000}, 2, 501, seed);
        estimate_stream((uint64_t[]){30 * MEBI, 20 * MEBI}, 2, 3, seed);
    }
}

/* As fa_set_mode does for the calling thread. */
static void a_redraw_at_any_point_leaves_estimates_unbiased(void)
{
    for (uint64_t seed = 1; seed < 6; seed++) {
        struct fa_thread thread = begin(100000, seed);
        double truth = 0, sum = 0, variance = 0;
        uint64_t random = seed;
        for (int k = 0; k < 3000000; k++) {
            uint64_t size = 16 + test_random(&random) % 1000;
            if (k % 37 == 0) sampler_redraw(&thread, k % 2 ? 100000 : 3000000);
            double weight = (double)allocate(&thread, size, thread.interval);
            truth += (double)size;
            if (weight == 0) continue;
            sum += weight;
            variance += weight * (weight - (double)size);
        }
        CHECK_NEAR(sum, truth, sqrt(variance));
        CHECK_EQUAL(sampler_bytes(&thread), truth);
    }
}

static void interval_1_takes_every_allocation_at_its_size(void)
{
    struct fa_thread thread = begin(1, 5);
    uint64_t random = 9;
    for (int k = 0; k < 1000000; k++) {
        uint64_t size = k % 3 ? test_random(&random) % 5000 : 0;
        CHECK_EQUAL(allocate(&thread, size, 1), size ? size : 1);
    }
}

static void each_stratum_has_one_event_at_any_of_its_bytes(void)
{
    /* Allocations of 1 byte. With u and v uniform on [0, T) a gap is T - u + v: mean T, variance T^2 / 6, and
     * neighbours share a stratum's event, so that their covariance is -T^2 / 12. */
    struct fa_thread thread = begin(1000, 11);
    double gaps = 0, squares = 0, products = 0, last = -1, gap = 0;
    for (int k = 0; k < 50000000; k++) {
        gap++;
        if (!allocate(&thread, 1, 1000)) continue;
        gaps++, squares += (gap - 1000) * (gap - 1000);
        if (last >= 0) products += (gap - 1000) * (last - 1000);
        last = gap, gap = 0;
    }
    CHECK(fabs(gaps - 50000) <= 1);
    CHECK_NEAR(squares / gaps, 1e6 / 6, 1e6 / 6 * sqrt(1.4 / gaps)); /* kurtosis of a triangular law: 2.4 */
    CHECK_NEAR(products / gaps, -1e6 / 12, 1e6 / 6 / sqrt(gaps));
}

/* Threads that allocate little, and what is recorded closely for a while, begin at any place of a stratum. */
static void a_short_stretch_is_sampled_as_often_as_a_long_one(void)
{
    double taken = 0, bytes = 0;
    struct fa_thread thread = begin(100000, 17);
    for (uint64_t seed = 1; seed <= 200000; seed++) {
        if (seed % 2) thread = begin(100000, seed);
        else sampler_redraw(&thread, 100000);
        for (int k = 0; k < 5; k++, bytes += 1000) taken += allocate(&thread, 1000, 100000) != 0;
    }
    CHECK_NEAR(taken, bytes / 100000, sqrt(bytes / 100000));
}

/* A line whose blocks come once an interval, always at the same place in it. */
static void a_program_in_step_with_the_strata_is_no_harm(void)
{
    double sum = 0, squares = 0, runs = 2000;
    for (uint64_t seed = 1; seed <= (uint64_t)runs; seed++) {
        struct fa_thread thread = begin(65536, seed);
        double estimate = 0;
        for (int k = 0; k < 100; k++) {
            estimate += (double)allocate(&thread, 16384, 65536);
            for (int other = 0; other < 3; other++) allocate(&thread, 16384, 65536);
        }
        sum += estimate, squares += (estimate - 1638400) * (estimate - 1638400);
    }
    double poisson = 1638400 * 65536.0;
    CHECK_NEAR(sum / runs, 1638400, sqrt(poisson / runs));
    CHECK(squares / runs < 0.9 * poisson); /* f = 1/4 */
}

/* Such blocks lie at the same place of their strata for ever, and so are sampled more, or less, often than the average
 * of all places would say. */
static void blocks_of_the_intervals_size_are_weighed_by_where_they_lie(void)
{
    static const uint64_t sizes[] = {524288, 262144, 524288 + 33, 786432, 524288 - 4096};
    for (int i = 0; i < 5; i++)
        for (uint64_t seed = 1; seed <= 8; seed++) {
            struct fa_thread thread = begin(524288, seed);
            double estimate = 0, truth = 2000.0 * (double)sizes[i];
            for (int k = 0; k < 2000; k++) estimate += (double)allocate(&thread, sizes[i], 524288);
            CHECK_NEAR(estimate, truth, sqrt(2000.0 / 3) * 524288); /* of blocks at a third and two: p(1 - p) / p^2 */
            CHECK(fabs(estimate / truth - 1) < 0.06);
        }
}

static void a_request_that_no_machine_can_serve_is_counted_and_forgotten(void)
{
    for (uint64_t interval = 1; interval < 1000000; interval = interval * 1000 + 7) {
        struct fa_thread thread = begin(interval, 5);
        allocate(&thread, INT64_MAX, interval);
        uint64_t taken = 0;
        for (int k = 0; k < 100000; k++) taken += allocate(&thread, 1000, interval) != 0;
        CHECK(taken >= 100000000 / (interval + 1000) - 2);
    }
}

static void what_one_line_fills_is_nearly_exact(void)
{
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct fa_thread thread = begin(524288, seed);
        double estimate = 0, truth = 100e6;
        uint64_t random = seed;
        allocate(&thread, test_random(&random) % 5000000, 524288);
        for (int k = 0; k < 1000000; k++) {
            estimate += (double)allocate(&thread, 100, 524288);
        }
        CHECK(fabs(estimate - truth) < 2 * 524288); /* a stratum at each end; Poisson: 7.2 MB, one standard error */
    }
}

static void weights_of_extreme_sizes_are_sane(void)
{
    for (int s = 0; s < 63; s++)
        for (int i = 0; i <= 40; i++) {
            uint64_t size = (uint64_t)1 << s, interval = (uint64_t)1 << i;
            uint64_t weight = sampler_weight(size, interval);
            CHECK(weight >= size);
            if (size < interval / 1000) CHECK(weight >= interval && weight <= interval + size);
            if (size > interval * 64) CHECK_EQUAL(weight, size);
            uint64_t count = sampler_count_q16(size, weight);
            CHECK(count >= 65536);
            CHECK_NEAR(count, 65536.0 * (double)weight / (double)size, 1);
        }
    CHECK_EQUAL(sampler_weight(0, 1000), 0);
    CHECK_EQUAL(sampler_count_q16(0, 0), 65536);
}

static void huge_sizes_do_not_upset_the_countdown(void)
{
    struct fa_thread thread = begin(524288, 12);
    static const uint64_t sizes[] = {(uint64_t)1 << 62, 1, (uint64_t)1 << 50, 0, 100};
    for (int k = 0; k < 1000; k++) {
        uint64_t size = sizes[k % 5], before = sampler_bytes(&thread);
        uint64_t under = allocate(&thread, size, 524288);
        CHECK_EQUAL(sampler_bytes(&thread), before + size);
        if (size > 1000) CHECK(under);
        CHECK(thread.left >= 0 && thread.left <= FA_DRAW_CAP);
    }
}

const struct test_case sampler_cases[] = {
    {"an allocation is sampled with the probability of its size", is_sampled_with_the_probability_of_its_size},
    {"weights add up to the bytes of each size", weights_add_up_to_the_bytes_of_each_size},
    {"a draw longer than the cap is handed out in pieces", a_draw_longer_than_the_cap_is_handed_out_in_pieces},
    {"the interval may change at any time", the_interval_may_change_at_any_time},
    {"a redraw at any point leaves estimates unbiased", a_redraw_at_any_point_leaves_estimates_unbiased},
    {"interval 1 takes every allocation at its size", interval_1_takes_every_allocation_at_its_size},
    {"each stratum has one event, at any of its bytes", each_stratum_has_one_event_at_any_of_its_bytes},
    {"a short stretch is sampled as often as a long one", a_short_stretch_is_sampled_as_often_as_a_long_one},
    {"a program in step with the strata is no harm", a_program_in_step_with_the_strata_is_no_harm},
    {"blocks of the interval's size are weighed by where they lie",
     blocks_of_the_intervals_size_are_weighed_by_where_they_lie},
    {"a request that no machine can serve is counted and forgotten",
     a_request_that_no_machine_can_serve_is_counted_and_forgotten},
    {"what one line fills is nearly exact", what_one_line_fills_is_nearly_exact},
    {"weights of extreme sizes are sane", weights_of_extreme_sizes_are_sane},
    {"huge sizes do not upset the countdown", huge_sizes_do_not_upset_the_countdown},
    {NULL, NULL},
};
