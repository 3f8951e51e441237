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

/* Bytes that were allocated beyond what was handed out. */
static int64_t over(const struct fa_thread *thread)
{
    return thread->left == INT64_MIN ? INT64_MAX : -thread->left;
}

uint64_t sampler_due(const struct fa_thread *thread, uint64_t size)
{
    int64_t beyond = over(thread) - thread->residual; /* of the block, from the event's byte to its end */
    if (beyond <= 0) return 0;
    if (thread->interval <= 1) return size ? size : 1;
    uint64_t interval = thread->interval, rest = thread->stratum_rest, at = interval - rest;
    uint64_t behind = (uint64_t)beyond, before = size > behind ? size - behind : 0;
    uint64_t first = before > at ? before - at : 0, last = behind > rest ? behind - rest : 0;
    uint64_t own = before - first + (behind - last);
    if (first >= interval || own >= interval || last >= interval) return size;
    double t = (double)interval;
    double chance = 1 - (1 - (double)first / t) * (1 - (double)own / t) * (1 - (double)last / t);
    return (uint64_t)((double)size / chance + 0.5);
}

/* Whether the allocation that took `left` below 0 has reached a notch: from where it was 0 on, since no piece reaches
 * beyond one. */
static int is_notch(const struct fa_thread *thread)
{
    uint64_t bytes = sampler_bytes(thread);
    return bytes / (uint64_t)FA_DRAW_CAP != (bytes - (uint64_t)over(thread) - 1) / (uint64_t)FA_DRAW_CAP;
}

void sampler_refill(struct fa_thread *thread, uint64_t interval)
{
    uint64_t was = thread->interval;
    int has_strata = was > 1 && was < (uint64_t)FA_PARKED;
    int64_t beyond = over(thread) - thread->residual;
    if (was != interval && (!has_strata || is_notch(thread))) sampler_redraw(thread, interval);
    else hand_out(thread, beyond > 0 ? draw_behind(thread, (uint64_t)beyond) : -beyond);
}

/* With a chance of size / interval, or for certain. */
uint64_t sampler_weight(uint64_t size, uint64_t interval)
{
    if (interval <= 1 || size == 0) return size;
    return size < interval ? interval : size;
}

uint64_t sampler_count_q16(uint64_t size, uint64_t weight)
{
    if (size == 0) return 65536;
    double count = (double)weight / (double)size * 65536.0 + 0.5;
    return count < 0x1p63 ? (uint64_t)count : (uint64_t)1 << 63;
}
