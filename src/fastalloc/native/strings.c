#include "strings.h"

#include <string.h>

#include "id_index.h"
#include "recorder.h"

static struct id_index by_text;

static uint32_t hash_text(const char *text, size_t bytes)
{
    uint64_t hash = 0xCBF29CE484222325ull; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3ull;
    return hash_mix(hash);
}

static size_t length_of(uint32_t id)
{
    uint16_t length;
    memcpy(&length, fa.strings + id, sizeof length);
    return length;
}

static uint32_t hash_of(uint32_t id)
{
    return hash_text(fa.strings + id + 2, length_of(id));
}

void strings_reset(void)
{
    REGION(FA_STRINGS).used = 8; /* id 0 is no string */
    id_index_reset(&by_text, 512, hash_of);
}

void strings_child(void)
{
    by_text.slots = NULL; /* left mapped: another thread may have been growing it at the fork */
    id_index_reset(&by_text, 2048, hash_of);
    for (uint32_t id = 8; by_text.slots && id + 3 <= REGION(FA_STRINGS).used; id += (uint32_t)length_of(id) + 3)
        id_index_insert(&by_text, hash_of(id), id);
}

static uint32_t find(const char *text, size_t bytes, uint32_t hash)
{
    uint32_t id;
    if (!by_text.slots) return 0;
    for (id_probe probe = id_index_probe(&by_text, hash); (id = id_index_next(&by_text, &probe));)
        if (length_of(id) == bytes && memcmp(fa.strings + id + 2, text, bytes) == 0) return id;
    return 0;
}

uint32_t string_find(const char *text, size_t bytes)
{
    return find(text, bytes, hash_text(text, bytes));
}

uint32_t string_intern(const char *text, size_t bytes)
{
    if (bytes > 65535) {
        bytes = 65535;
        while (bytes && ((unsigned char)text[bytes] & 0xC0) == 0x80) bytes--; /* not inside a character */
    }
    uint32_t hash = hash_text(text, bytes);
    uint32_t id = find(text, bytes, hash);
    if (id) return id;

    struct fa_region *region = &REGION(FA_STRINGS);
    if (!by_text.slots || region->used + bytes + 3 > region->capacity) {
        fa_lose(FA_LOSS_STRINGS);
        return 0;
    }
    id = (uint32_t)region->used;
    uint16_t length = (uint16_t)bytes;
    memcpy(fa.strings + id, &length, sizeof length);
    memcpy(fa.strings + id + 2, text, bytes);
    fa.strings[id + 2 + bytes] = 0;
    region->used += bytes + 3;
    id_index_insert(&by_text, hash, id);
    return id;
}
