/* When the recording's file is lost under its mapping: cut short by somebody, or on a disk that fails
 * or has no room after all (file systems that copy on write reserve nothing).
 *
 * The kernel then answers the next write with SIGBUS, and the program would die of its recorder. So
 * a handler stands before whatever is there for SIGBUS: a fault inside the mapping puts memory of our
 * own in the file's place, with what can still be read, and the program goes on. Any other SIGBUS gives
 * the place back to who had it before and happens again, so that all is as without us.
 *
 * Not met: a handler installed after ours, that does not pass on what is not its own; a thread of the
 * program's that has SIGBUS blocked: the kernel then ends the process, whatever the handler. */
#ifndef FA_LOST_FILE_H
#define FA_LOST_FILE_H

/* From now on, while a file is mapped. Again: does nothing. */
void lost_file_watch(void);
/* No file is mapped any more, but memory. */
void lost_file_is_memory(void);
/* Gives the signal back, if ours is still the handler. */
void lost_file_unwatch(void);

#endif
