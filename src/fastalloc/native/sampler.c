#include "sampler.h"

static uint64_t next_random(uint64_t *state)
{
    /* xorshift64*, Vigna 2016 */
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

double sampler_uniform(uint64_t *state)
{
    return (double)((next_random(state) >> 11) + 1) * 0x1p-53;
}

/* Uniform in [0, n), for n below 2^53 exactly. */
static uint64_t below(struct fa_thread *thread, uint64_t n)
{
    uint64_t number = (uint64_t)((double)(next_random(&thread->rng) >> 11) * 0x1p-53 * (double)n);
    return number < n ? number : n - 1;
}

/* Bytes to the next event, from a place so many bytes into a stratum whose event is still to be drawn, or
 * (`is_past`) lies behind. */
static int64_t draw(struct fa_thread *thread, uint64_t into, int is_past)
{
    uint64_t interval = thread->interval;
    if (interval <= 1) return -1; /* the very next allocation, even of 0 bytes */
    if (interval >= (uint64_t)FA_PARKED) return FA_PARKED;
    uint64_t event = below(thread, interval), ahead = 0;
    if (is_past || event < into) {
        event = below(thread, interval);
        ahead = interval;
    }
    thread->stratum_rest = interval - event;
    return (int64_t)(ahead + event - into);
}

/* From a place in its stratum as likely as any other. */
static int64_t draw_anywhere(struct fa_thread *thread)
{
    uint64_t interval = thread->interval;
    return draw(thread, interval > 1 && interval < (uint64_t)FA_PARKED ? below(thread, interval) : 0, 0);
}

/* From the end of a block that has the event and what follows it, `bytes` in all. */
static int64_t draw_behind(struct fa_thread *thread, uint64_t bytes)
{
    uint64_t interval = thread->interval, rest = thread->stratum_rest;
    if (interval <= 1) return draw(thread, 0, 0);
    if (bytes < rest) return draw(thread, interval - rest + bytes, 1);
    return draw(thread, (bytes - rest) % interval, 0);
}

/* Sets `left` to the first piece of a draw, up to the next notch at most, and keeps the rest. */
static void hand_out(struct fa_thread *thread, int64_t distance)
{
    int64_t piece = FA_DRAW_CAP - (int64_t)(sampler_bytes(thread) % (uint64_t)FA_DRAW_CAP);
    if (distance < piece) piece = distance;
    thread->residual = distance - piece;
    sampler_issue(thread, (uint64_t)piece - (uint64_t)thread->left);
}

void sampler_begin(struct fa_thread *thread, uint64_t interval, uint64_t seed)
{
    thread->rng = seed ? seed : 1;
    for (int i = 0; i < 8; i++) next_random(&thread->rng);
    thread->interval = interval;
    thread->residual = 0;
    hand_out(thread, draw_anywhere(thread));
}

void sampler_redraw(struct fa_thread *thread, uint64_t interval)
{
    thread->interval = interval;
    hand_out(thread, draw_anywhere(thread));
}

/* Whether the allocation that has taken `over` bytes more than were handed out has reached a notch: from where
 * `left` was 0 on, since no piece reaches beyond one. */
static int is_notch(const struct fa_thread *thread, int64_t over)
{
    uint64_t bytes = sampler_bytes(thread);
    return bytes / (uint64_t)FA_DRAW_CAP != (bytes - (uint64_t)over - 1) / (uint64_t)FA_DRAW_CAP;
}

uint64_t sampler_refill(struct fa_thread *thread, uint64_t interval)
{
    int64_t over = -thread->left;
    uint64_t was = thread->interval, sampled_under = 0;
    int has_strata = was > 1 && was < (uint64_t)FA_PARKED;
    if (over > thread->residual) sampled_under = was ? was : 1;
    if (was != interval && (!has_strata || is_notch(thread, over))) {
        sampler_redraw(thread, interval);
    } else if (sampled_under) {
        hand_out(thread, draw_behind(thread, (uint64_t)(over - thread->residual)));
    } else {
        hand_out(thread, thread->residual - over);
    }
    return sampled_under;
}

uint64_t sampler_weight(uint64_t size, uint64_t interval)
{
    if (interval <= 1 || size == 0) return size;
    double s = (double)size, t = (double)interval, chance;
    if (s < t) {
        chance = s / t - s * (s * s - 1) / (6 * t * t * t);
    } else {
        double short_of_two = 2 * t - s;
        if (short_of_two <= 1) return size; /* a whole stratum is in it, wherever it lies */
        chance = 1 - short_of_two * (short_of_two * short_of_two - 1) / (6 * t * t * t);
    }
    return (uint64_t)(s / chance + 0.5);
}

uint64_t sampler_count_q16(uint64_t size, uint64_t weight)
{
    if (size == 0) return 65536;
    return (uint64_t)((double)weight / (double)size * 65536.0 + 0.5);
}
