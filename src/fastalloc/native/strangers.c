#define _GNU_SOURCE
#include <features.h>

#ifdef __GLIBC__ /* elsewhere nothing is patched: see patches.h */

#include "strangers.h"

#include <stdio.h>
#include <string.h>

#include "elf_slots.h"

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

static int look_up(struct dl_phdr_info *info, size_t size, void *unused)
{
    struct elf_object object;
    (void)size, (void)unused;
    if (!elf_object_read(info, &object)) return 0;
    for (uint32_t i = 0; i < count; i++) {
        uintptr_t value = (uintptr_t)strangers[i].value, address;
        if (strangers[i].verdict != VERDICT_OPEN || !elf_object_holds(&object, value, 0)) continue;
        int defines = elf_object_defines(&object, strangers[i].name, &address) && (!address || address == value);
        strangers[i].verdict = defines ? VERDICT_ALLOCATOR : VERDICT_TOOL;
    }
    return 0;
}

void strangers_look_up(void)
{
    dl_iterate_phdr(look_up, NULL);
    for (uint32_t i = 0; i < count; i++)
        if (strangers[i].verdict == VERDICT_OPEN) strangers[i].verdict = VERDICT_ALLOCATOR;
}

struct holder {
    uintptr_t value;
    char *file;
    size_t bytes;
};

static int name_holder(struct dl_phdr_info *info, size_t size, void *data)
{
    struct holder *holder = data;
    (void)size;
    struct elf_object object = {.base = info->dlpi_addr, .segments = info->dlpi_phdr, .segment_count = info->dlpi_phnum};
    if (!elf_object_holds(&object, holder->value, 0)) return 0;
    const char *name = info->dlpi_name[0] ? info->dlpi_name : "the program", *slash = strrchr(name, '/');
    snprintf(holder->file, holder->bytes, "%s", slash ? slash + 1 : name);
    return 1;
}

void stranger_file(const void *value, char *file, size_t bytes)
{
    struct holder holder = {(uintptr_t)value, file, bytes};
    snprintf(file, bytes, "unknown");
    dl_iterate_phdr(name_holder, &holder);
}

void strangers_forget(void)
{
    count = 0;
}

#else
typedef int strangers_need_glibc;
#endif
