/* Sends each line of standard input as one POST over keep-alive connections, and says when and with what answer.
 *
 *     load PORT PATH KEY CONNECTIONS RATE < bodies > times
 *
 * RATE 0: every connection sends its next line as soon as it has its answer. Else lines are due at RATE a second,
 * whatever the answers do: one that finds no connection free waits, and its time counts from when it was due.
 *
 * A line of the output for each line of the input: due and done in microseconds of the epoch, and the status.
 * It is written in C so that it takes little of the processors that it shares with what is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 1024, ANSWER = 16384 };

struct line { char *body; size_t length; long due, done; int status; };

struct connection {
    int fd;              /* -1: not connected */
    struct line *line;   /* what it carries; NULL: free */
    char *request;
    size_t length, sent;
    char answer[ANSWER]; /* the head of the answer, and as much of the body as came with it */
    size_t got;
    long left;           /* bytes of the body still to come; -1: the head is not complete */
};

static struct line *lines;
static size_t count, next;
static struct connection *connections;
static int port, width;
static const char *path, *key;
static double rate;
static long began;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
    exit(1);
}

static long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return at.tv_sec * 1000000L + at.tv_nsec / 1000;
}

/* Reads every line; returns the length of the longest. */
static size_t read_lines(void) {
    size_t room = 0, space = 0, longest = 0;
    char *text = NULL;
    ssize_t length;
    while ((length = getline(&text, &space, stdin)) > 0) {
        if (count == room) lines = realloc(lines, (room = room ? 2 * room : 1024) * sizeof *lines);
        lines[count++] = (struct line){.body = strndup(text, length - 1), .length = length - 1};
        if ((size_t)length > longest) longest = length;
    }
    free(text);
    return longest;
}

static void dial(struct connection *one) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if ((one->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket");
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
}

static void push(struct connection *one) {
    ssize_t bytes = write(one->fd, one->request + one->sent, one->length - one->sent);
    if (bytes < 0 && errno != EAGAIN) fail("write");
    if (bytes > 0) one->sent += bytes;
}

static void begin(struct connection *one, struct line *line) {
    int head;
    if (one->fd < 0) dial(one);
    head = snprintf(one->request, HEAD,
                    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
                    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", path, port, key, line->length);
    memcpy(one->request + head, line->body, line->length);
    one->length = head + line->length;
    one->sent = one->got = 0;
    one->left = -1;
    one->line = line;
    push(one);
}

/* Whether the whole answer is there. */
static int pull(struct connection *one) {
    char rest[ANSWER], *end, *field;
    ssize_t bytes = one->left < 0 ? read(one->fd, one->answer + one->got, ANSWER - 1 - one->got)
                                  : read(one->fd, rest, sizeof rest);
    if (bytes < 0 && errno == EAGAIN) return 0;
    if (bytes == 0 && !one->line) {  /* a server may close what it has not used for a while */
        close(one->fd);
        one->fd = -1;
        return 0;
    }
    if (bytes <= 0) fail("read");
    if (one->left >= 0) return (one->left -= bytes) <= 0;
    one->got += bytes;
    one->answer[one->got] = 0;
    if (!(end = strstr(one->answer, "\r\n\r\n"))) return 0;
    if (!(field = strcasestr(one->answer, "\ncontent-length:")) || field > end) fail("an answer without a length");
    one->left = atol(field + sizeof "\ncontent-length:" - 1) - (one->answer + one->got - end - 4);
    return one->left <= 0;
}

static void finish(struct connection *one) {
    one->line->done = now();
    one->line->status = atoi(one->answer + sizeof "HTTP/1.1 " - 1);
    one->line = NULL;
}

/* Gives the free connections what is due; returns the microseconds until the next line is, -1 when that is not known. */
static long offer(void) {
    long wait;
    for (int i = 0; i < width && next < count; i++) {
        if (connections[i].line) continue;
        lines[next].due = rate ? began + (long)(next * 1e6 / rate) : now();
        if ((wait = lines[next].due - now()) > 0) return wait;
        begin(&connections[i], &lines[next++]);
    }
    return -1;
}

static void wait_for(struct pollfd *polls, long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    for (int i = 0; i < width; i++) {
        struct connection *one = &connections[i];
        polls[i] = (struct pollfd){.fd = one->fd, .events = POLLIN | (one->line && one->sent < one->length ? POLLOUT : 0)};
    }
    if (ppoll(polls, width, microseconds < 0 ? NULL : &time, NULL) < 0) fail("poll");
}

int main(int argc, char **argv) {
    size_t done = 0;
    if (argc != 6) fail("PORT PATH KEY CONNECTIONS RATE");
    port = atoi(argv[1]), path = argv[2], key = argv[3], width = atoi(argv[4]), rate = atof(argv[5]);
    size_t longest = read_lines();
    connections = calloc(width, sizeof *connections);
    struct pollfd *polls = calloc(width, sizeof *polls);
    for (int i = 0; i < width; i++) connections[i] = (struct connection){.fd = -1, .request = malloc(HEAD + longest)};
    began = now();
    while (done < count) {
        wait_for(polls, offer());
        for (int i = 0; i < width; i++) {
            struct connection *one = &connections[i];
            if (polls[i].revents & POLLOUT) push(one);
            if (polls[i].revents & (POLLIN | POLLHUP | POLLERR) && pull(one)) {
                finish(one);
                done++;
            }
        }
    }
    for (size_t i = 0; i < count; i++) printf("%ld %ld %d\n", lines[i].due, lines[i].done, lines[i].status);
    return 0;
}
