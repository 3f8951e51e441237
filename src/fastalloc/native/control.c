#define _GNU_SOURCE
#include "control.h"

#include "fastalloc.h"
#include "own_cpu.h"
#include "records.h"
#include "strings.h"

uint32_t own_cpu_passes;
uint64_t own_cpu_clock_ns;

void own_cpu_calibrate(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t begun = own_cpu_now_ns(), ns = own_cpu_now_ns() - begun;
        if (ns < least) least = ns;
    }
    own_cpu_clock_ns = least;
}

void control_stop(void)
{
    fa.header->off = FA_OFF_CONTROL;
    event_write(FA_EVENT_CONTROL, FA_CONTROL_DISABLE, FA_OFF_CONTROL, 0);
    __atomic_store_n(&fa.active, 0, __ATOMIC_RELEASE);
}

uint32_t fa_control(void)
{
    return fa.header ? __atomic_load_n(&fa.header->control, __ATOMIC_ACQUIRE) : FA_CONTROL_RUN;
}

int fa_control_replace(uint32_t old, uint32_t new)
{
    return fa.header && __atomic_compare_exchange_n(&fa.header->control, &old, new, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void fa_note_off(uint32_t off)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return;
    fa_lock();
    if (fa.header->off != off) event_write(FA_EVENT_CONTROL, fa_control(), off, 0);
    fa.header->off = off;
    fa_unlock();
}

void fa_note_own_cpu(uint32_t millionths)
{
    if (fa.header) __atomic_store_n(&fa.header->own_cpu_millionths, millionths, __ATOMIC_RELAXED);
}

void fa_note_overhead(uint32_t millionths, uint64_t interval_bytes)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING || fa.header->off != FA_OFF_NOT) return; /* the guard's stop stands */
    fa_lock();
    if (fa.header->off != FA_OFF_NOT) { /* the guard has stopped sampling meanwhile */
        fa_unlock();
        return;
    }
    event_write(FA_EVENT_OVERHEAD, millionths, interval_bytes, 0);
    /* Threads take it up at their next draw, within FA_DRAW_CAP bytes. */
    if (interval_bytes) fa.header->interval_bytes = fa.interval = interval_bytes;
    fa_unlock();
}

void fa_note_breaker(const char *layer, size_t layer_bytes, int is_open)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return;
    fa_lock();
    event_write_about(FA_EVENT_BREAKER, (uint64_t)is_open, 0, layer, layer_bytes);
    fa_unlock();
}
