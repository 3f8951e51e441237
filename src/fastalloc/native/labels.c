#include "labels.h"

#include "id_index.h"
#include "recorder.h"
#include "strings.h"

#define NAME_BYTES 200
#define NAMES_CAPACITY 1024

static struct id_index phases_index;
static uint32_t names;

static uint32_t phase_hash(uint32_t span_name, uint32_t name)
{
    return hash_mix((uint64_t)span_name << 32 | name);
}

static uint32_t hash_of_phase(uint32_t id)
{
    return phase_hash(fa.phases[id].span_name, fa.phases[id].name);
}

static void rebuild(void)
{
    id_index_reset(&phases_index, 512, hash_of_phase);
    for (uint32_t id = 1; id < REGION(FA_PHASES).used; id++) id_index_insert(&phases_index, hash_of_phase(id), id);
}

void labels_reset(void)
{
    names = 0;
    REGION(FA_PHASES).used = 1;
    rebuild();
}

void labels_child(void)
{
    phases_index.slots = NULL; /* left mapped: another thread may have been growing it at the fork */
    rebuild();
}

uint32_t name_intern(const char *text, size_t bytes)
{
    if (bytes > NAME_BYTES) {
        bytes = NAME_BYTES;
        while (bytes && ((unsigned char)text[bytes] & 0xC0) == 0x80) bytes--; /* not inside a character */
    }
    uint32_t known = string_find(text, bytes);
    if (known) return known;
    if (names >= NAMES_CAPACITY) return string_intern("(other)", 7);
    names++;
    return string_intern(text, bytes);
}

uint32_t phase_label_of(uint32_t span_name, uint32_t name)
{
    uint32_t hash = phase_hash(span_name, name), id;
    if (!phases_index.slots || !name) return 0;
    for (id_probe probe = id_index_probe(&phases_index, hash); (id = id_index_next(&phases_index, &probe));)
        if (fa.phases[id].name == name && fa.phases[id].span_name == span_name) return id;
    struct fa_region *region = &REGION(FA_PHASES);
    if (region->used >= region->capacity) {
        fa_lose(FA_LOSS_PHASES);
        return 0;
    }
    id = (uint32_t)region->used++;
    fa.phases[id].name = name;
    fa.phases[id].span_name = span_name;
    fa.phases[id].held.peak = fa.header->peak;
    id_index_insert(&phases_index, hash, id);
    return id;
}

uint32_t phase_label(uint32_t span_name, const char *text, size_t bytes)
{
    return phase_label_of(span_name, name_intern(text, bytes));
}
