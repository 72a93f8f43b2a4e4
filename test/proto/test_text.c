#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/text.h"

enum { MAX = 8 };

static int decode(const char *bytes, size_t n, char to[MAX + 1])
{
    uint8_t message[2 + 255];
    struct reader r = reader_of(message, 2 + n);

    message[0] = (uint8_t)n;
    message[1] = 0;
    memcpy(message + 2, bytes, n);
    return get_text(&r, to, MAX, TEXT_U16);
}

Test(text, utf8_is_read_and_anything_else_refused)
{
    static const struct {
        const char *bytes;
        int want;
    } cases[] = {
        { "", 0 },
        { "abc ~", 0 },
        { "\xc2\xa0", 0 },         /* U+00A0, the first after the control characters */
        { "\xdf\xbf", 0 },         /* U+07FF */
        { "\xe0\xa0\x80", 0 },     /* U+0800 */
        { "\xed\x9f\xbf", 0 },     /* U+D7FF */
        { "\xee\x80\x80", 0 },     /* U+E000 */
        { "\xf0\x90\x80\x80", 0 }, /* U+10000 */
        { "\xf4\x8f\xbf\xbf", 0 }, /* U+10FFFF */
        { "a\n", -EPROTO },
        { "\x1b[2J", -EPROTO },
        { "\x7f", -EPROTO },
        { "\xc2\x9b", -EPROTO },         /* U+009B starts a terminal's control sequence */
        { "\x80", -EPROTO },             /* a continuation byte alone */
        { "\xc1\xbf", -EPROTO },         /* overlong */
        { "\xe0\x9f\xbf", -EPROTO },     /* overlong */
        { "\xf0\x8f\xbf\xbf", -EPROTO }, /* overlong */
        { "\xed\xa0\x80", -EPROTO },     /* a surrogate */
        { "\xf4\x90\x80\x80", -EPROTO }, /* past U+10FFFF */
        { "\xf5\x80\x80\x80", -EPROTO },
        { "\xff", -EPROTO },
        { "a\xc3", -EPROTO }, /* cut off inside a character */
        { "\xe7\x95", -EPROTO },
        { "\xf0\x9f\x98", -EPROTO },
        { "\xe7\x95 ", -EPROTO },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char to[MAX + 1] = "same";
        const size_t n = strlen(cases[i].bytes);
        cr_assert_eq(decode(cases[i].bytes, n, to), cases[i].want, "case %zu", i);
        cr_assert_str_eq(to, cases[i].want == 0 ? cases[i].bytes : "same");
    }
}

Test(text, a_nul_inside_is_refused)
{
    char to[MAX + 1];
    cr_assert_eq(decode("a\0b", 3, to), -EPROTO);
}

Test(text, longest_is_read_and_one_more_refused)
{
    char to[MAX + 1];
    cr_assert_eq(decode("12345678", 8, to), 0);
    cr_assert_str_eq(to, "12345678");
    cr_assert_eq(decode("123456789", 9, to), -EPROTO);
}

Test(text, what_is_no_text_goes_out_as_question_marks)
{
    static const struct {
        const char *from, *want;
    } cases[] = {
        { "a\nb", "a?b" },
        { "\xff\xfe", "??" },
        { "1234567\xc3\xa9", "1234567?" }, /* cut off by the limit inside a character */
        { "123456\xc3\xa9", "123456\xc3\xa9" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[2 + MAX];
        struct writer w = { .buf = bytes, .cap = sizeof bytes };
        char to[MAX + 1];
        put_text(&w, cases[i].from, MAX, TEXT_U16);
        struct reader r = reader_of(bytes, w.at);
        cr_assert_eq(get_text(&r, to, MAX, TEXT_U16), 0);
        cr_assert_str_eq(to, cases[i].want);
    }
}
