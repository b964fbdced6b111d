/*
 * What busybox cannot do in a guest: half-closed connections of both kinds, many at once, how a connection fails, UDP, and
 * frames made by hand. Compiled by musl-gcc for the tests (guest-net.ts). Each verb prints lines, and fails with a reason.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netdb.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kPatience = 5000, kPiece = 65536, kMostSockets = 512 };

static char piece[kPiece];

static void Die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static long Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct addrinfo *Resolve(const char *host, const char *port, int type) {
  struct addrinfo hints = {.ai_socktype = type}, *found;
  int error = getaddrinfo(host, port, &hints, &found);
  if (error) {
    fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
    exit(1);
  }
  return found;
}

/* A connected socket, or -1 with errno; the wait is bounded. */
static int Connect(const char *host, const char *port, int type, int patience) {
  struct addrinfo *to = Resolve(host, port, type);
  int fd = socket(to->ai_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) Die("socket");
  int failed = connect(fd, to->ai_addr, to->ai_addrlen) < 0 ? errno : 0;
  freeaddrinfo(to);
  if (failed == EINPROGRESS) {
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof failed;
    if (poll(&wait, 1, patience) == 0) failed = ETIMEDOUT;
    else getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size);
  }
  if (failed) {
    close(fd);
    errno = failed;
    return -1;
  }
  fcntl(fd, F_SETFL, 0);
  return fd;
}

static int MustConnect(const char *host, const char *port) {
  int fd = Connect(host, port, SOCK_STREAM, 30000);
  if (fd < 0) Die("connect");
  return fd;
}

static void WriteAll(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t done = write(fd, bytes, length);
    if (done < 0) Die("write");
    bytes += done;
    length -= done;
  }
}

/* Checked: the error of a connection that was reset is told once, to whoever asks first. */
static void WriteLine(int fd, const char *text) {
  WriteAll(fd, text, strlen(text));
  WriteAll(fd, "\n", 1);
}

/* Copies to the end; bytes. */
static long long Drain(int from, int to) {
  long long total = 0;
  for (ssize_t got; (got = read(from, piece, sizeof piece)) != 0; total += got) {
    if (got < 0) Die("read");
    if (to >= 0) WriteAll(to, piece, got);
  }
  return total;
}

/* try HOST PORT [MS]...: `connected`, or the errno's text, and how long it took. Pairs may be many. */
static int Try(int count, char **words) {
  for (int at = 0; at + 1 < count; at += 2) {
    long began = Now();
    int fd = Connect(words[at], words[at + 1], SOCK_STREAM, kPatience);
    const char *how = fd >= 0 ? "connected" : strerror(errno);
    printf("%s %s %ld %s\n", words[at], words[at + 1], Now() - began, how);
    fflush(stdout);
    if (fd >= 0) close(fd);
  }
  return 0;
}

/* talk HOST PORT TEXT: sends it, says that this is all, and prints what comes until the end. */
static int Talk(char **words) {
  int fd = MustConnect(words[0], words[1]);
  WriteAll(fd, words[2], strlen(words[2]));
  shutdown(fd, SHUT_WR);
  Drain(fd, 1);
  return 0;
}

/* listen-first HOST PORT TEXT: reads to the end, prints it, and only then sends. */
static int ListenFirst(char **words) {
  int fd = MustConnect(words[0], words[1]);
  Drain(fd, 1);
  sleep(1);
  WriteAll(fd, words[2], strlen(words[2]));
  shutdown(fd, SHUT_WR);
  return close(fd);
}

/*
 * send HOST PORT BYTES: that many digits and a NUL, which ends it; prints what the other side says to that, and milliseconds.
 * A fourth word goes before them, as a line.
 */
static int Send(int count, char **words) {
  int fd = MustConnect(words[0], words[1]);
  long began = Now();
  if (count > 3) WriteLine(fd, words[3]);
  memset(piece, '0', sizeof piece);
  for (long long left = atoll(words[2]); left > 0;) {
    size_t part = left < (long long)sizeof piece ? (size_t)left : sizeof piece;
    WriteAll(fd, piece, part);
    left -= part;
  }
  WriteAll(fd, "", 1);
  Drain(fd, 1);
  printf("%ld\n", Now() - began);
  return 0;
}

/*
 * receive HOST PORT BYTES: asks for them, and passes them to stdout, or with a fourth word counts them and milliseconds. A fifth
 * is for how many seconds it reads nothing.
 */
static int Receive(int count, char **words) {
  int fd = MustConnect(words[0], words[1]);
  long began = Now();
  WriteLine(fd, words[2]);
  if (count > 4) sleep(atoi(words[4]));
  long long got = Drain(fd, count > 3 ? -1 : 1);
  if (count > 3) printf("%lld\n%ld\n", got, Now() - began);
  return 0;
}

/* many HOST PORT COUNT BYTES: connections at once, each gets its bytes; how many got them all. */
static int Many(char **words) {
  int count = atoi(words[2]), whole = 0, left = 0;
  long long wanted = atoll(words[3]);
  static struct pollfd wait[kMostSockets];
  static long long got[kMostSockets];
  if (count > kMostSockets) return 1;
  for (int at = 0; at < count; at++) {
    wait[at] = (struct pollfd){.fd = MustConnect(words[0], words[1]), .events = POLLIN};
  }
  for (int at = 0; at < count; at++) WriteLine(wait[at].fd, words[3]);
  for (left = count; left > 0;) {
    if (poll(wait, count, 60000) <= 0) break;
    for (int at = 0; at < count; at++) {
      if (!wait[at].revents) continue;
      ssize_t more = read(wait[at].fd, piece, sizeof piece);
      if (more > 0) {
        got[at] += more;
        continue;
      }
      if (more == 0 && got[at] == wanted) whole++;
      wait[at].fd = -1;
      left--;
    }
  }
  printf("%d\n", whole);
  return 0;
}

/* fetch HOST PORT COUNT: small HTTP requests one after the other, a connection each; microseconds of one. */
static int Fetch(char **words) {
  const char *request = "GET /bytes/1024 HTTP/1.0\r\n\r\n";
  int count = atoi(words[2]);
  long began = Now();
  for (int at = 0; at < count; at++) {
    int fd = MustConnect(words[0], words[1]);
    WriteAll(fd, request, strlen(request));
    if (Drain(fd, -1) < 1024) return 1;
    close(fd);
  }
  printf("%ld\n", (Now() - began) * 1000 / count);
  return 0;
}

/* udp HOST PORT SIZE...: each datagram has to come back, three tries; prints the sizes that did. */
static int Udp(int count, char **words) {
  int fd = Connect(words[0], words[1], SOCK_DGRAM, kPatience);
  if (fd < 0) Die("connect");
  for (int at = 2; at < count; at++) {
    int size = atoi(words[at]);
    for (int tries = 0; tries < 3; tries++) {
      struct pollfd wait = {.fd = fd, .events = POLLIN};
      if (send(fd, piece, size, 0) < 0) printf("%d: %s\n", size, strerror(errno));
      if (poll(&wait, 1, 1000) <= 0) continue;
      ssize_t got = recv(fd, piece, sizeof piece, 0);
      if (got < 0) printf("%d: %s\n", size, strerror(errno));
      if (got < 0) break;
      printf("%zd\n", got);
      break;
    }
  }
  return 0;
}

/* echo-udp PORT: answers each datagram; prints `ready`. */
static void EchoUdp(char **words) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(atoi(words[0]))};
  if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0) Die("bind");
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    ssize_t got = recvfrom(fd, piece, sizeof piece, 0, (struct sockaddr *)&from, &size);
    if (got >= 0) sendto(fd, piece, got, 0, (struct sockaddr *)&from, size);
  }
}

/* take PORT: one connection, on IPv4 or IPv6; copies what comes to stdout, to its end, and then ends it too. */
static int Take(char **words) {
  int listener = socket(AF_INET6, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(words[0]))};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 1) < 0) Die("listen");
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) Die("accept");
  Drain(fd, 1);
  return 0;
}

/* give HOST PORT: stdin to the end; waits for who listens there, and until that has ended the connection. */
static int Give(char **words) {
  const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
  int fd = -1;
  for (int attempt = 0; fd < 0 && attempt < 100; attempt++) {
    fd = Connect(words[0], words[1], SOCK_STREAM, kPatience);
    if (fd < 0) nanosleep(&pause, NULL);
  }
  if (fd < 0) Die("connect");
  Drain(0, fd);
  shutdown(fd, SHUT_WR);
  Drain(fd, -1);
  return 0;
}

/* frame LINK HEX...: puts frames on a link as they are. */
static int Frame(int count, char **words) {
  int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(words[0])};
  if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to) < 0) Die("packet socket");
  for (int at = 1; at < count; at++) {
    size_t length = strlen(words[at]) / 2;
    for (size_t byte = 0; byte < length; byte++) sscanf(words[at] + 2 * byte, "%2hhx", &piece[byte]);
    if (send(fd, piece, length, 0) < 0) Die("send");
  }
  return 0;
}

/* now: the wall clock, milliseconds since the epoch. */
static int WallClock(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  printf("%lld\n", now.tv_sec * 1000LL + now.tv_nsec / 1000000);
  return 0;
}

int main(int count, char **words) {
  const char *verb = count > 1 ? words[1] : "";
  count -= 2;
  words += 2;
  if (!strcmp(verb, "now") && count == 0) return WallClock();
  if (!strcmp(verb, "try") && count >= 2) return Try(count, words);
  if (!strcmp(verb, "talk") && count == 3) return Talk(words);
  if (!strcmp(verb, "listen-first") && count == 3) return ListenFirst(words);
  if (!strcmp(verb, "send") && count >= 3) return Send(count, words);
  if (!strcmp(verb, "receive") && count >= 3) return Receive(count, words);
  if (!strcmp(verb, "many") && count == 4) return Many(words);
  if (!strcmp(verb, "fetch") && count == 3) return Fetch(words);
  if (!strcmp(verb, "udp") && count >= 3) return Udp(count, words);
  if (!strcmp(verb, "echo-udp") && count == 1) EchoUdp(words);
  if (!strcmp(verb, "take") && count == 1) return Take(words);
  if (!strcmp(verb, "give") && count == 2) return Give(words);
  if (!strcmp(verb, "frame") && count >= 2) return Frame(count, words);
  fprintf(stderr, "guest-net: no such verb\n");
  return 2;
}
