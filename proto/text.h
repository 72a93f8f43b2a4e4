/* proto/text.h - texts inside messages: a length, then that many bytes of UTF-8 (RFC 3629)
 * without control characters, so that a peer's words can go into a log line or JSON as they are. */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include "proto/wire.h"

/* The bytes that the length itself takes. */
enum text_length { TEXT_U8 = 1, TEXT_U16 = 2 };

/* Writes the text in `s`, at most `max` bytes of it.  What is no UTF-8 (a sentence cut off inside
 * a character, an odd file name) or a control character goes out as '?'. */
void put_text(struct writer *w, const char *s, size_t max, enum text_length length);

/* Reads a text into `to`, max + 1 bytes, NUL-terminated.  Returns 0, -EBADMSG (fewer bytes left
 * than it says) or -EPROTO (longer than `max`, or no such text). */
int get_text(struct reader *r, char *to, size_t max, enum text_length length);

#endif
