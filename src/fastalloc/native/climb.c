#include "climb.h"

#include "fastalloc.h"
#include "hooks.h"
#include "recorder.h"
#include "usage.h"

#define BACK_PERCENT 10u

#define LIGHT_INTERVAL (512u << 10)
#define AGGRESSIVE_INTERVAL (64u << 10)

static int follows, paused;
static unsigned light_percent, aggressive_percent; /* 0: never */
static uint64_t looked_ns, standby_interval;
static uint32_t wanted; /* enum fa_mode; FA_MODE_DISABLED: nothing */

static uint32_t mode_for(unsigned percent, uint32_t now)
{
    unsigned light = percent + (now >= FA_MODE_LIGHT ? BACK_PERCENT : 0);
    unsigned aggressive = percent + (now >= FA_MODE_AGGRESSIVE ? BACK_PERCENT : 0);
    if (aggressive_percent && aggressive >= aggressive_percent) return FA_MODE_AGGRESSIVE;
    return light_percent && light >= light_percent ? FA_MODE_LIGHT : FA_MODE_STANDBY;
}

void climb_at(unsigned light, unsigned aggressive)
{
    light_percent = light;
    aggressive_percent = aggressive;
    paused = 0;
}

void climb_pause(int now)
{
    __atomic_store_n(&paused, now, __ATOMIC_RELAXED);
    __atomic_store_n(&wanted, FA_MODE_DISABLED, __ATOMIC_RELAXED);
}

void climb_from(uint32_t mode)
{
    follows = mode == FA_MODE_STANDBY;
    standby_interval = fa.interval;
    looked_ns = 0;
    __atomic_store_n(&wanted, FA_MODE_DISABLED, __ATOMIC_RELAXED);
}

static int switch_soon(void *unused)
{
    (void)unused;
    climb_switch();
    return 0;
}

void climb_look(void)
{
    if (!follows || !fa.header || __atomic_load_n(&paused, __ATOMIC_RELAXED)) return;
    uint64_t now = fa_now_ns(), last = __atomic_load_n(&looked_ns, __ATOMIC_RELAXED);
    if (last && now - last < 1000000000ull) return;
    if (!__atomic_compare_exchange_n(&looked_ns, &last, now | 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    unsigned percent = usage_percent();
    if (!percent) return;
    uint32_t mode = mode_for(percent, fa.header->mode);
    if (mode == fa.header->mode) return;
    __atomic_store_n(&wanted, mode, __ATOMIC_RELAXED);
    hooks_call_soon(switch_soon);
}

int climb_wanted(void)
{
    return __atomic_load_n(&wanted, __ATOMIC_RELAXED) != FA_MODE_DISABLED;
}

void climb_switch(void)
{
    uint32_t mode = __atomic_exchange_n(&wanted, FA_MODE_DISABLED, __ATOMIC_RELAXED);
    if (!follows || paused || mode == FA_MODE_DISABLED || !fa_is_active()) return;
    mode_switch(mode, mode == FA_MODE_AGGRESSIVE ? AGGRESSIVE_INTERVAL
                      : mode == FA_MODE_LIGHT    ? LIGHT_INTERVAL
                                                 : standby_interval);
}
