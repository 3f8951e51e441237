/* Interned text: names of functions, files, threads, spans, phases. Lock held. */
#ifndef FA_STRINGS_H
#define FA_STRINGS_H

#include <stddef.h>
#include <stdint.h>

void strings_reset(void);   /* new recording */
void strings_child(void); /* forked child: the private index anew, from the recording */
/* Its id; 0 when the table is full (counted). Text longer than 65535 bytes is cut. */
uint32_t string_intern(const char *text, size_t bytes);
uint32_t string_find(const char *text, size_t bytes); /* 0: not there */
uint32_t thread_name_intern(const char *text, size_t bytes);

#endif
