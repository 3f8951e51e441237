#define _GNU_SOURCE
#include "strangers.h"

#include <dlfcn.h>
#include <string.h>

#define STRANGERS 64
static struct {
    void *value;
    const char *name;
    enum stranger_verdict verdict;
} strangers[STRANGERS];
static uint32_t count;

enum stranger_verdict stranger_verdict(void *value, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (strangers[i].value == value && strcmp(strangers[i].name, name) == 0) return strangers[i].verdict;
    if (count >= STRANGERS) return VERDICT_ALLOCATOR; /* so many: the rest is left alone */
    strangers[count].value = value;
    strangers[count].name = name;
    strangers[count++].verdict = VERDICT_OPEN;
    return VERDICT_OPEN;
}

static enum stranger_verdict look_up(void *value, const char *name)
{
    Dl_info info;
    enum stranger_verdict verdict = VERDICT_TOOL;
    if (!dladdr(value, &info) || !info.dli_fname) return VERDICT_ALLOCATOR;
    if (info.dli_saddr == value && info.dli_sname && strcmp(info.dli_sname, name) == 0) return VERDICT_ALLOCATOR;
    /* It may have several names. */
    void *handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (!handle) return verdict;
    if (dlsym(handle, name) == value) verdict = VERDICT_ALLOCATOR;
    dlclose(handle);
    return verdict;
}

void strangers_look_up(void)
{
    for (uint32_t i = 0; i < count; i++)
        if (strangers[i].verdict == VERDICT_OPEN) strangers[i].verdict = look_up(strangers[i].value, strangers[i].name);
}

void strangers_forget(void)
{
    count = 0;
}
