#define _GNU_SOURCE
#include "unwind.h"

#ifdef UNWIND_REGISTERS

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE ((uintptr_t)4096)
#define REMEMBERED 4

enum rule_kind { SAME, UNDEFINED, AT_OFFSET, IS_OFFSET, IN_REGISTER, AT_EXPRESSION, IS_EXPRESSION };

struct rule {
    int32_t value; /* offset from the CFA, register, or of an expression: its offset from the module's start */
    uint8_t kind;
};

struct rules {
    struct rule registers[UNWIND_REGISTERS];
    int64_t cfa_offset;
    const unsigned char *cfa_expression; /* NULL: register and offset */
    uint32_t cfa_register;
};

/* Bytes of the tables; `failed` once anything was out of bounds. */
struct reader {
    const unsigned char *at, *end;
    int failed;
};

struct table_entry {
    int64_t code_factor, data_factor;
    const unsigned char *begin, *end;         /* the function's own instructions */
    const unsigned char *first, *first_end; /* those of all functions of its kind */
    uintptr_t start;
    uint64_t return_register;
    int is_signal;
};

static unsigned byte(struct reader *reader)
{
    if (reader->at >= reader->end) {
        reader->failed = 1;
        return 0;
    }
    return *reader->at++;
}

static uint64_t fixed(struct reader *reader, size_t bytes)
{
    uint64_t value = 0;
    if ((size_t)(reader->end - reader->at) < bytes) {
        reader->failed = 1;
        reader->at = reader->end;
        return 0;
    }
    memcpy(&value, reader->at, bytes);
    reader->at += bytes;
    return value;
}

static uint64_t number(struct reader *reader)
{
    uint64_t value = 0;
    unsigned shift = 0, next;
    do {
        next = byte(reader);
        if (shift < 64) value |= (uint64_t)(next & 127) << shift;
        shift += 7;
    } while (next & 128 && !reader->failed);
    return value;
}

static int64_t signed_number(struct reader *reader)
{
    uint64_t value = 0;
    unsigned shift = 0, next;
    do {
        next = byte(reader);
        if (shift < 64) value |= (uint64_t)(next & 127) << shift;
        shift += 7;
    } while (next & 128 && !reader->failed);
    if (shift < 64 && next & 64) value |= ~(uint64_t)0 << shift;
    return (int64_t)value;
}

/* DW_EH_PE_*: low half the format, high half what it is relative to (only "itself" and "nothing" occur). */
static uint64_t encoded(struct reader *reader, unsigned encoding, int relative)
{
    uintptr_t here = (uintptr_t)reader->at;
    uint64_t value;
    switch (encoding & 15) {
    case 0: case 4: case 12: value = fixed(reader, 8); break;
    case 2: value = fixed(reader, 2); break;
    case 3: value = fixed(reader, 4); break;
    case 10: value = (uint64_t)(int16_t)fixed(reader, 2); break;
    case 11: value = (uint64_t)(int32_t)fixed(reader, 4); break;
    default: reader->failed = 1; return 0;
    }
    if (!relative) return value;
    if ((encoding & 0x70) == 0x10) return value + here;
    if (encoding & 0xF0) reader->failed = 1;
    return value;
}

static int within(const struct unwind_module *module, const void *from, uint64_t bytes)
{
    uintptr_t at = (uintptr_t)from;
    return at >= module->start && at < module->end && bytes <= module->end - at;
}

/* --- the tables ------------------------------------------------------------------------------- */

/* The index: pairs of 32-bit offsets from its own start, function and entry, in order. */
static const unsigned char *entry_of(const struct unwind_module *module, uintptr_t ip)
{
    const unsigned char *index = module->index;
    if (!index || !within(module, index, 12)) return NULL;
    if (index[0] != 1 || index[1] != 0x1B || index[2] != 3 || index[3] != 0x3B) return NULL;
    uint32_t count;
    memcpy(&count, index + 8, sizeof count);
    if (!count || !within(module, index, 12 + (uint64_t)count * 8)) return NULL;
    int64_t wanted = (int64_t)(ip - (uintptr_t)index);
    uint32_t low = 0, high = count;
    int32_t pair[2];
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        memcpy(pair, index + 12 + (size_t)middle * 8, 4);
        if (pair[0] <= wanted) low = middle;
        else high = middle;
    }
    memcpy(pair, index + 12 + (size_t)low * 8, sizeof pair);
    return pair[0] <= wanted ? index + pair[1] : NULL;
}

static int open_record(const struct unwind_module *module, const unsigned char *at, struct reader *reader)
{
    uint32_t length;
    if (!within(module, at, 8)) return 0;
    memcpy(&length, at, sizeof length);
    if (length < 4 || length >= 0xFFFFFFF0u || !within(module, at + 4, length)) return 0;
    *reader = (struct reader){at + 4, at + 4 + length, 0};
    return 1;
}

static int read_common(const struct unwind_module *module, const unsigned char *at, struct table_entry *entry,
                       unsigned *pointers, int *augmented)
{
    struct reader reader;
    if (!open_record(module, at, &reader) || fixed(&reader, 4) != 0) return 0;
    unsigned version = byte(&reader);
    const char *text = (const char *)reader.at;
    while (byte(&reader)) continue;
    if (reader.failed || (version != 1 && version != 3)) return 0;
    entry->code_factor = (int64_t)number(&reader);
    entry->data_factor = signed_number(&reader);
    entry->return_register = version == 1 ? byte(&reader) : number(&reader);
    *pointers = 0;
    *augmented = text[0] == 'z';
    entry->is_signal = 0;
    if (*augmented) {
        uint64_t bytes = number(&reader);
        if (reader.failed || bytes > (uint64_t)(reader.end - reader.at)) return 0;
        const unsigned char *behind = reader.at + bytes;
        for (text++; *text && !reader.failed; text++) {
            if (*text == 'R') *pointers = byte(&reader);
            else if (*text == 'L') byte(&reader);
            else if (*text == 'P') encoded(&reader, byte(&reader), 0);
            else if (*text == 'S') entry->is_signal = 1;
            else if (*text != 'B') break;
        }
        reader.at = behind;
    } else if (text[0]) {
        return 0;
    }
    entry->first = reader.at;
    entry->first_end = reader.end;
    return !reader.failed;
}

static int read_entry(const struct unwind_module *module, uintptr_t ip, struct table_entry *entry)
{
    struct reader reader;
    unsigned pointers;
    int augmented;
    const unsigned char *at = entry_of(module, ip);
    if (!at || !open_record(module, at, &reader)) return 0;
    const unsigned char *field = reader.at;
    uint64_t back = fixed(&reader, 4);
    if (!back || back > (uintptr_t)field - module->start) return 0;
    if (!read_common(module, field - back, entry, &pointers, &augmented)) return 0;
    entry->start = encoded(&reader, pointers, 1);
    uint64_t length = encoded(&reader, pointers, 0);
    if (augmented) {
        uint64_t bytes = number(&reader);
        if (bytes > (uint64_t)(reader.end - reader.at)) return 0;
        reader.at += bytes;
    }
    entry->begin = reader.at;
    entry->end = reader.end;
    return !reader.failed && ip - entry->start < length;
}

/* --- the rules at an instruction ---------------------------------------------------------------- */

static void set(struct rules *rules, uint64_t reg, enum rule_kind kind, int64_t value)
{
    if (reg < UNWIND_REGISTERS) rules->registers[reg] = (struct rule){(int32_t)value, (uint8_t)kind};
}

static void set_expression(struct rules *rules, const struct unwind_module *module, struct reader *reader,
                           uint64_t reg, enum rule_kind kind)
{
    const unsigned char *at = reader->at;
    uint64_t bytes = number(reader);
    if (reader->failed || bytes > (uint64_t)(reader->end - reader->at)) {
        reader->failed = 1;
        return;
    }
    reader->at += bytes;
    set(rules, reg, kind, (int64_t)((uintptr_t)at - module->start));
}

/* Runs a table's instructions up to `ip`. */
static int run(struct rules *rules, const struct rules *first, const struct unwind_module *module,
               const struct table_entry *entry, const unsigned char *from, const unsigned char *to, uintptr_t ip)
{
    struct rules remembered[REMEMBERED];
    struct reader reader = {from, to, 0};
    uintptr_t location = entry->start;
    int depth = 0;
    uint64_t reg;
    while (reader.at < reader.end && !reader.failed) {
        unsigned code = byte(&reader), low = code & 63;
        int64_t factor = entry->data_factor;
        switch (code & 0xC0) {
        case 0x40: /* advance */
            location += low * (uint64_t)entry->code_factor;
            if (location > ip) return 1;
            continue;
        case 0x80: set(rules, low, AT_OFFSET, (int64_t)number(&reader) * factor); continue;
        case 0xC0:
            if (low < UNWIND_REGISTERS) rules->registers[low] = first->registers[low];
            continue;
        }
        switch (low) {
        case 0x00: break;
        case 0x01: location = encoded(&reader, 0x1B, 1); break;
        case 0x02: location += byte(&reader) * (uint64_t)entry->code_factor; break;
        case 0x03: location += fixed(&reader, 2) * (uint64_t)entry->code_factor; break;
        case 0x04: location += fixed(&reader, 4) * (uint64_t)entry->code_factor; break;
        case 0x05: reg = number(&reader); set(rules, reg, AT_OFFSET, (int64_t)number(&reader) * factor); break;
        case 0x06:
            reg = number(&reader);
            if (reg < UNWIND_REGISTERS) rules->registers[reg] = first->registers[reg];
            break;
        case 0x07: set(rules, number(&reader), UNDEFINED, 0); break;
        case 0x08: set(rules, number(&reader), SAME, 0); break;
        case 0x09: reg = number(&reader); set(rules, reg, IN_REGISTER, (int64_t)number(&reader)); break;
        case 0x0A:
            if (depth == REMEMBERED) return 0;
            remembered[depth++] = *rules;
            break;
        case 0x0B:
            if (!depth) return 0;
            *rules = remembered[--depth];
            break;
        case 0x0C:
            rules->cfa_register = (uint32_t)number(&reader);
            rules->cfa_offset = (int64_t)number(&reader);
            rules->cfa_expression = NULL;
            break;
        case 0x0D: rules->cfa_register = (uint32_t)number(&reader); rules->cfa_expression = NULL; break;
        case 0x0E: rules->cfa_offset = (int64_t)number(&reader); break;
        case 0x0F:
            rules->cfa_expression = reader.at;
            set_expression(rules, module, &reader, UNWIND_REGISTERS, SAME); /* skips it */
            break;
        case 0x10: reg = number(&reader); set_expression(rules, module, &reader, reg, AT_EXPRESSION); break;
        case 0x11: reg = number(&reader); set(rules, reg, AT_OFFSET, signed_number(&reader) * factor); break;
        case 0x12:
            rules->cfa_register = (uint32_t)number(&reader);
            rules->cfa_offset = signed_number(&reader) * factor;
            rules->cfa_expression = NULL;
            break;
        case 0x13: rules->cfa_offset = signed_number(&reader) * factor; break;
        case 0x14: reg = number(&reader); set(rules, reg, IS_OFFSET, (int64_t)number(&reader) * factor); break;
        case 0x15: reg = number(&reader); set(rules, reg, IS_OFFSET, signed_number(&reader) * factor); break;
        case 0x16: reg = number(&reader); set_expression(rules, module, &reader, reg, IS_EXPRESSION); break;
        case 0x2D: break;                  /* aarch64: the return address is signed from here on */
        case 0x2E: number(&reader); break; /* bytes of arguments */
        default: return 0;
        }
        if (low <= 0x04 && low && location > ip) return 1;
    }
    return !reader.failed;
}

/* --- registers ---------------------------------------------------------------------------------- */

/* The kernel looks at the address before it looks at what is asked: EFAULT where it cannot be read. */
static int can_read(struct unwind *unwind, uintptr_t at)
{
    uintptr_t page = at & ~(PAGE - 1);
    if (page == unwind->pages[0] || page == unwind->pages[1]) return 1;
    if (syscall(SYS_rt_sigprocmask, ~0, page, NULL, _NSIG / 8) != -1 || errno == EFAULT) return 0;
    unwind->pages[1] = unwind->pages[0];
    unwind->pages[0] = page;
    return 1;
}

static int load(struct unwind *unwind, uintptr_t at, uintptr_t *value)
{
    if (at & (sizeof *value - 1) || !can_read(unwind, at)) return 0;
    memcpy(value, (const void *)at, sizeof *value);
    return 1;
}

#define OPERANDS 8
/* What compilers and the C library write: PLT entries, aligned stacks, signal frames. */
static int evaluate(struct unwind *unwind, const unsigned char *at, const struct unwind_module *module, uintptr_t start,
                    int has_start, uintptr_t *result)
{
    uintptr_t stack[OPERANDS + 1];
    int top = -1;
    struct reader reader = {at, (const unsigned char *)module->end, 0};
    uint64_t bytes = number(&reader);
    if (reader.failed || bytes > (uint64_t)(reader.end - reader.at)) return 0;
    reader.end = reader.at + bytes;
    if (has_start) stack[++top] = start;
    while (reader.at < reader.end && !reader.failed) {
        unsigned code = byte(&reader);
        if (top + 1 >= OPERANDS) return 0;
        if (code >= 0x30 && code <= 0x4F) {
            stack[++top] = code - 0x30;
        } else if (code >= 0x70 && code <= 0x8F) {
            if (code - 0x70 >= UNWIND_REGISTERS) return 0;
            stack[++top] = unwind->registers[code - 0x70] + (uintptr_t)signed_number(&reader);
        } else if (code == 0x08) {
            stack[++top] = byte(&reader);
        } else if (code == 0x06) {
            if (top < 0 || !load(unwind, stack[top], &stack[top])) return 0;
        } else if (code == 0x23) {
            if (top < 0) return 0;
            stack[top] += (uintptr_t)number(&reader);
        } else {
            if (top < 1) return 0;
            uintptr_t b = stack[top--], a = stack[top];
            switch (code) {
            case 0x1A: stack[top] = a & b; break;
            case 0x1C: stack[top] = a - b; break;
            case 0x22: stack[top] = a + b; break;
            case 0x24: stack[top] = b < 64 ? a << b : 0; break;
            case 0x2A: stack[top] = (intptr_t)a >= (intptr_t)b; break;
            default: return 0;
            }
        }
    }
    if (reader.failed || top < 0) return 0;
    *result = stack[top];
    return 1;
}

static int restore(struct unwind *unwind, const struct rules *rules, const struct unwind_module *module, uintptr_t cfa)
{
    uintptr_t after[UNWIND_REGISTERS];
    memcpy(after, unwind->registers, sizeof after);
    after[UNWIND_SP] = cfa;
    for (int i = 0; i < UNWIND_REGISTERS; i++) {
        const struct rule *rule = &rules->registers[i];
        const unsigned char *expression = (const unsigned char *)(module->start + (uint32_t)rule->value);
        switch (rule->kind) {
        case SAME: break;
        case UNDEFINED: after[i] = 0; break;
        case IS_OFFSET: after[i] = cfa + (uintptr_t)(intptr_t)rule->value; break;
        case AT_OFFSET:
            if (!load(unwind, cfa + (uintptr_t)(intptr_t)rule->value, &after[i])) return 0;
            break;
        case IN_REGISTER:
            if ((uint32_t)rule->value >= UNWIND_REGISTERS) return 0;
            after[i] = unwind->registers[rule->value];
            break;
        default:
            if (!evaluate(unwind, expression, module, cfa, 1, &after[i])) return 0;
            if (rule->kind == AT_EXPRESSION && !load(unwind, after[i], &after[i])) return 0;
        }
    }
    memcpy(unwind->registers, after, sizeof after);
    return 1;
}

static uintptr_t without_signature(uintptr_t address)
{
#ifdef __aarch64__
    register uintptr_t x30 __asm__("x30") = address;
    __asm__("hint #7" : "+r"(x30)); /* xpaclri */
    return x30;
#else
    return address;
#endif
}

int unwind_step(struct unwind *unwind, const struct unwind_module *module)
{
    struct table_entry entry;
    struct rules rules, first;
    uintptr_t ip = unwind->registers[UNWIND_IP] - (uintptr_t)(unwind->at_call != 0), cfa;
    if (!read_entry(module, ip, &entry) || entry.return_register != UNWIND_IP) return 0;
    memset(&rules, 0, sizeof rules);
    if (!run(&rules, &rules, module, &entry, entry.first, entry.first_end, UINTPTR_MAX)) return 0;
    first = rules;
    if (!run(&rules, &first, module, &entry, entry.begin, entry.end, ip)) return 0;
    if (rules.cfa_expression) {
        if (!evaluate(unwind, rules.cfa_expression, module, 0, 0, &cfa)) return 0;
    } else {
        if (rules.cfa_register >= UNWIND_REGISTERS) return 0;
        cfa = unwind->registers[rules.cfa_register] + (uintptr_t)rules.cfa_offset;
    }
    if (rules.registers[UNWIND_IP].kind == UNDEFINED) return 0; /* the root */
    if (cfa <= unwind->cfa && !entry.is_signal) return 0;
    if (!restore(unwind, &rules, module, cfa)) return 0;
    unwind->registers[UNWIND_IP] = without_signature(unwind->registers[UNWIND_IP]);
    unwind->cfa = cfa;
    unwind->at_call = !entry.is_signal;
    return unwind->registers[UNWIND_IP] != 0;
}

#else
typedef int unwind_knows_no_such_machine;
#endif
