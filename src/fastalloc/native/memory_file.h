/* A recording in memory, where there can be no file, that other processes can read all the same. */
#ifndef FA_MEMORY_FILE_H
#define FA_MEMORY_FILE_H

/* The anonymous memory of the recording becomes a file without a name, and a symbolic link in the folder,
 * named as the recording would be, leads to it. Where that cannot be it stays as it is. The second time it
 * only sees that the link is there. Lock held, or nothing recorded yet. Async-signal-safe; keeps errno. */
void memory_file_show(void);

/* Is what is mapped a file without a name? */
int memory_file_is_shown(void);

/* The link goes, and the descriptor. What is mapped stays mapped. */
void memory_file_hide(void);

/* In a forked child: both are the parent's. */
void memory_file_forget(void);

#endif
