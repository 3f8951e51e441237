#include "sampler.h"

#include <math.h>

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

static int64_t draw(struct fa_thread *thread)
{
    if (thread->interval <= 1) return -1; /* the very next allocation, even of 0 bytes */
    double distance = -log(sampler_uniform(&thread->rng)) * (double)thread->interval;
    return distance < (double)FA_PARKED ? (int64_t)distance : FA_PARKED;
}

/* Sets `left` to the first piece of a draw and keeps the rest. */
static void hand_out(struct fa_thread *thread, int64_t distance)
{
    int64_t piece = distance < FA_DRAW_CAP ? distance : FA_DRAW_CAP;
    thread->residual = distance - piece;
    sampler_issue(thread, (uint64_t)piece - (uint64_t)thread->left);
}

void sampler_begin(struct fa_thread *thread, uint64_t interval, uint64_t seed)
{
    thread->rng = seed ? seed : 1;
    for (int i = 0; i < 8; i++) next_random(&thread->rng);
    thread->interval = interval;
    thread->residual = 0;
    hand_out(thread, draw(thread));
}

void sampler_redraw(struct fa_thread *thread, uint64_t interval)
{
    thread->interval = interval;
    hand_out(thread, draw(thread));
}

uint64_t sampler_refill(struct fa_thread *thread, uint64_t interval)
{
    int64_t over = -thread->left; /* bytes allocated beyond what was handed out */
    uint64_t sampled_under = 0;
    if (over > thread->residual) sampled_under = thread->interval ? thread->interval : 1;
    if (sampled_under || thread->interval != interval) {
        sampler_redraw(thread, interval);
    } else {
        hand_out(thread, thread->residual - over);
    }
    return sampled_under;
}

uint64_t sampler_weight(uint64_t size, uint64_t interval)
{
    if (interval <= 1 || size == 0) return size;
    double ratio = (double)size / (double)interval;
    if (ratio > 40) return size; /* exp(-40) is below a double's resolution of 1 */
    return (uint64_t)((double)size / -expm1(-ratio) + 0.5);
}

uint64_t sampler_count_q16(uint64_t size, uint64_t weight)
{
    if (size == 0) return 65536;
    return (uint64_t)((double)weight / (double)size * 65536.0 + 0.5);
}
