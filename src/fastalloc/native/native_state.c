#include "native_state.h"

#include <stdio.h>
#include <string.h>

#include "fastalloc.h"
#include "live.h"
#include "mappings.h"
#include "records.h"
#include "strings.h"

struct native_state native_state;
static char reason[600];

int fa_native_is_on(void)
{
    return native_state.on;
}

uint32_t fa_native_slots(void)
{
    return native_state.on ? native_state.slots : 0;
}

void native_state_begin(void)
{
    native_state = (struct native_state){.on = 1};
}

void native_state_off(const char *why)
{
    native_state.on = 0;
    native_state.slots = native_state.refused = 0;
    snprintf(native_state.why_off, sizeof native_state.why_off, "%s", why);
}

static void say(const char *part)
{
    size_t used = strlen(reason);
    snprintf(reason + used, sizeof reason - used, "%s%s", used ? "; " : "", part);
}

static void compose(void)
{
    char part[200];
    reason[0] = 0;
    if (!native_state.on) {
        say(native_state.why_off);
        return;
    }
    if (native_state.gaps) {
        snprintf(part, sizeof part,
                 "another tool had taken hooks of malloc or mmap away and left (%u times): the native samples "
                 "of before were dropped", native_state.gaps);
        say(part);
    }
    if (native_state.refused) {
        snprintf(part, sizeof part,
                 "%u of %u addresses of malloc and mmap could not be patched: their pages cannot be made writable",
                 native_state.refused, native_state.refused + native_state.slots);
        say(part);
    }
    if (native_state.stuck)
        say("forked while another thread was loading a library: what is loaded from here on is not seen");
}

const char *fa_native_reason(void)
{
    compose();
    return reason;
}

void native_state_publish(void)
{
    compose();
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return;
    fa_lock();
    fa.header->native = (uint32_t)native_state.on;
    fa.header->native_slots = fa_native_slots();
    fa.header->native_reason = reason[0] ? string_intern(reason, strlen(reason)) : 0;
    fa_unlock();
}

void native_state_event(enum fa_native_event what)
{
    fa_lock();
    event_write(FA_EVENT_NATIVE, what, fa_native_slots(), 0);
    fa_unlock();
}

void native_state_forget_samples(enum fa_native_event what)
{
    fa_lock();
    live_drop_domain(FA_DOMAIN_MALLOC);
    live_drop_domain(FA_DOMAIN_MMAP);
    mappings_reset();
    fa_unlock();
    native_state_event(what);
}
