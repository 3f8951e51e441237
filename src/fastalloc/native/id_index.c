#include "id_index.h"

#include <string.h>

#include "raw_memory.h"

static void place(uint32_t *slots, uint32_t mask, uint32_t hash, uint32_t id)
{
    uint32_t at = hash & mask;
    while (slots[at]) at = (at + 1) & mask;
    slots[at] = id;
}

int id_index_reset(struct id_index *index, uint32_t capacity, uint32_t (*hash_of)(uint32_t))
{
    uint32_t count = 1024;
    while (count < capacity * 2u) count *= 2;
    if (index->slots) raw_memory_unmap(index->slots, (index->mask + 1ul) * sizeof(uint32_t));
    memset(index, 0, sizeof *index);
    index->slots = raw_memory_map(count * sizeof(uint32_t));
    if (!index->slots) return -1;
    index->mask = count - 1;
    index->hash_of = hash_of;
    return 0;
}

void id_index_clear(struct id_index *index)
{
    memset(index->slots, 0, (index->mask + 1ul) * sizeof(uint32_t));
    index->used = 0;
}

static int grow(struct id_index *index)
{
    uint32_t count = (index->mask + 1) * 2;
    uint32_t *slots = raw_memory_map(count * sizeof(uint32_t));
    if (!slots) return -1;
    for (uint32_t i = 0; i <= index->mask; i++) {
        uint32_t id = index->slots[i];
        if (id) place(slots, count - 1, index->hash_of(id), id);
    }
    raw_memory_unmap(index->slots, (index->mask + 1ul) * sizeof(uint32_t));
    index->slots = slots;
    index->mask = count - 1;
    return 0;
}

int id_index_insert(struct id_index *index, uint32_t hash, uint32_t id)
{
    /* Never full: a probe for an absent key must meet an empty slot. */
    if (index->used * 2u >= index->mask && grow(index) && index->used + 2 > index->mask) return -1;
    place(index->slots, index->mask, hash, id);
    index->used++;
    return 0;
}
