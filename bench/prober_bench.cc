// What health probes cost, and whether they start in time: a HealthChecker on a real event loop
// asks many backends, each once a second. The backends are loopback addresses, which one server in
// a process of its own answers for all.
//
//   build/bench/prober_bench [RATE [SECONDS [KIND…]]]
//   build/bench/prober_bench 10000 5 tcp http
//
// Prints a line for each kind. «CPU» is that of this process: on loopback the kernel does much of
// the server's part of TCP on the client's account, so with a network between it is less. «late»
// are probes that started more than a tenth of their interval after they were due.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "control/event_loop.h"
#include "control/health.h"
#include "control/prober.h"
#include "tests/support/certificate.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using boost::system::error_code;

constexpr absl::Duration kInterval = absl::Seconds(1);
constexpr absl::Duration kWarmUp = absl::Seconds(2);
const std::string kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

// Reads a request's head, answers, and waits for the client to close.
template <typename Stream>
class Session : public std::enable_shared_from_this<Session<Stream>> {
 public:
  template <typename... Args>
  explicit Session(Args&&... args) : stream_(std::forward<Args>(args)...) {}

  void Read() {
    asio::async_read_until(stream_, asio::dynamic_buffer(request_), "\r\n\r\n",
                           [this, self = this->shared_from_this()](error_code e, size_t) {
                             if (e) return;
                             request_.clear();
                             Answer();
                           });
  }
  Stream& stream() { return stream_; }

 private:
  void Answer() {
    asio::async_write(stream_, asio::buffer(kAnswer),
                      [this, self = this->shared_from_this()](error_code e, size_t) {
                        if (!e) Read();
                      });
  }

  Stream stream_;
  std::string request_;
};

using Plain = Session<tcp::socket>;
using Secure = Session<asio::ssl::stream<tcp::socket>>;

void Accept(tcp::acceptor& acceptor, asio::ssl::context* tls) {
  acceptor.async_accept([&acceptor, tls](error_code e, tcp::socket socket) {
    if (!e && tls == nullptr) std::make_shared<Plain>(std::move(socket))->Read();
    if (!e && tls != nullptr) {
      const auto session = std::make_shared<Secure>(std::move(socket), *tls);
      session->stream().async_handshake(asio::ssl::stream_base::server, [session](error_code e) {
        if (!e) session->Read();
      });
    }
    Accept(acceptor, tls);
  });
}

// Sends back what comes, as an answer by DNS's flag.
class Echo {
 public:
  Echo(asio::io_context& io, const udp::endpoint& at) : socket_(io, at) { Receive(); }

  uint16_t port() const { return socket_.local_endpoint().port(); }

 private:
  void Receive() {
    socket_.async_receive_from(asio::buffer(buffer_), client_, [this](error_code e, size_t size) {
      if (!e) {
        if (size > 2) buffer_[2] = static_cast<char>(buffer_[2] | 0x80);
        error_code ignored;
        socket_.send_to(asio::buffer(buffer_, size), client_, 0, ignored);
      }
      Receive();
    });
  }

  udp::socket socket_;
  udp::endpoint client_;
  char buffer_[512];
};

// The how manieth backend's, from 0.
std::string AddressOf(int i) { return absl::StrCat("127.1.", i / 250, ".", i % 250 + 1); }

struct Ports {
  uint16_t plain, tls, udp;
};

// The server, in a child process that ends with this one.
Ports StartServer(int backends) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::abort();
  if (fork() != 0) {
    Ports ports;
    if (read(pipe_ends[0], &ports, sizeof(ports)) != sizeof(ports)) std::abort();
    return ports;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  asio::io_context io(1);
  asio::ssl::context tls(asio::ssl::context::tls_server);
  const testing::Certificate certificate = testing::MakeCertificate("DNS:a.example", nullptr);
  SSL_CTX_use_certificate(tls.native_handle(), certificate.certificate.get());
  SSL_CTX_use_PrivateKey(tls.native_handle(), certificate.key.get());
  tcp::acceptor plain(io, {tcp::v4(), 0}), secure(io, {tcp::v4(), 0});
  // One for each backend: answers must come from the address that was asked.
  std::vector<std::unique_ptr<Echo>> echoes;
  uint16_t udp_port = 0;
  for (int i = 0; i < backends; ++i) {
    const udp::endpoint at(asio::ip::make_address(AddressOf(i)), udp_port);
    udp_port = echoes.emplace_back(std::make_unique<Echo>(io, at))->port();
  }
  Accept(plain, nullptr);
  Accept(secure, &tls);
  const Ports ports = {plain.local_endpoint().port(), secure.local_endpoint().port(), udp_port};
  if (write(pipe_ends[1], &ports, sizeof(ports)) != sizeof(ports)) std::abort();
  for (;;) io.poll();  // never asleep: else waking it would be on the client's account, too
}

// A loop that remembers for when the timer was set that fires now: what is started there was due
// then or later.
class WatchedLoop final : public EventLoop {
 public:
  explicit WatchedLoop(asio::io_context& io) : loop_(NewEventLoop(io)) {}

  absl::Duration Now() const override { return loop_->Now(); }
  std::unique_ptr<Timer> NewTimer() override { return std::make_unique<WatchedTimer>(this); }
  void Post(Task task) override { loop_->Post(std::move(task)); }
  void RunOnHelper(Task work, Task done) override {
    loop_->RunOnHelper(std::move(work), std::move(done));
  }
  std::unique_ptr<WorkApart> RunApart(Task work, Task done) override {
    return loop_->RunApart(std::move(work), std::move(done));
  }
  size_t threads_apart() const override { return loop_->threads_apart(); }

  absl::Duration due() const { return due_; }

 private:
  class WatchedTimer final : public Timer {
   public:
    explicit WatchedTimer(WatchedLoop* loop) : loop_(loop), timer_(loop->loop_->NewTimer()) {}
    void Set(absl::Duration when, Task task) override {
      timer_->Set(when, [this, when, task = std::move(task)] {
        loop_->due_ = when;
        task();
      });
    }
    void Cancel() override { timer_->Cancel(); }

   private:
    WatchedLoop* const loop_;
    const std::unique_ptr<Timer> timer_;
  };

  const std::unique_ptr<EventLoop> loop_;
  absl::Duration due_;
};

struct Tally {
  int started = 0, late = 0, not_ok = 0;
  absl::Duration latest;
  std::string reason;  // of one that was not ok
};

class CountingProber final : public Prober {
 public:
  CountingProber(const WatchedLoop* loop, Prober* prober) : loop_(loop), prober_(prober) {}

  void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) override {
    const absl::Duration late = loop_->Now() - loop_->due();
    ++tally.started;
    tally.late += late > kInterval / 10;
    tally.latest = std::max(tally.latest, late);
    prober_->Ask(question, timeout, [this, done = std::move(done)](ProbeAnswer answer) {
      if (answer.kind != ProbeAnswer::Kind::kOk) {
        ++tally.not_ok;
        tally.reason = answer.reason;
      }
      done(std::move(answer));
    });
  }

  Tally tally;

 private:
  const WatchedLoop* const loop_;
  Prober* const prober_;
};

absl::Duration CpuTime() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

void Run(const std::string& name, const ProbeQuestion& question, int rate, int seconds) {
  asio::io_context io(1);
  WatchedLoop loop(io);
  const std::unique_ptr<Prober> prober = NewProber(io);
  CountingProber counting(&loop, prober.get());
  HealthChecker checker(&loop, &counting, 1, [](const HealthTarget&, const HealthReport&) {});
  std::vector<HealthChecker::Wanted> wanted;
  for (int i = 0; i < rate; ++i) {
    HealthTarget target;
    target.question = question;
    target.question.address = IpAddress::Parse(AddressOf(i)).value();
    target.interval = kInterval;
    target.timeout = kInterval / 2;
    wanted.push_back({target});
  }
  checker.SetTargets(wanted);
  io.run_for(absl::ToChronoNanoseconds(kWarmUp));
  counting.tally = {};
  const absl::Duration cpu_before = CpuTime(), before = loop.Now();
  io.run_for(std::chrono::seconds(seconds));
  const double elapsed = absl::ToDoubleSeconds(loop.Now() - before);
  const double cpu = absl::ToDoubleSeconds(CpuTime() - cpu_before);
  const Tally& tally = counting.tally;
  std::printf("%-5s %8.0f/s  CPU %5.1f us a probe, %5.2f of a core  late %d of %d, at most %s",
              name.c_str(), tally.started / elapsed, cpu / tally.started * 1e6, cpu / elapsed,
              tally.late, tally.started,
              absl::FormatDuration(absl::Trunc(tally.latest, absl::Microseconds(10))).c_str());
  std::printf(tally.not_ok == 0 ? "  all ok\n" : "  %d not ok (%s)\n", tally.not_ok,
              tally.reason.c_str());
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  const int rate = argc > 1 ? std::atoi(argv[1]) : 10000;
  const int seconds = argc > 2 ? std::atoi(argv[2]) : 5;
  if (rate < 1 || rate > 60000 || seconds < 1) {
    std::fprintf(stderr, "usage: %s [RATE (1 to 60000) [SECONDS [KIND…]]]\n", argv[0]);
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const rlimit files = {65536, 65536};
  setrlimit(RLIMIT_NOFILE, &files);
  const Ports ports = StartServer(rate);
  ProbeQuestion::Http https;
  https.security = ProbeQuestion::Http::Security::kTls;
  const std::vector<std::pair<std::string, ProbeQuestion>> kinds = {
      {"tcp", {{}, ports.plain, ProbeQuestion::Tcp()}},
      {"http", {{}, ports.plain, ProbeQuestion::Http()}},
      {"https", {{}, ports.tls, https}},
      {"dns", {{}, ports.udp, ProbeQuestion::Dns{"health.example.com"}}},
      {"icmp", {{}, 0, ProbeQuestion::Icmp()}},
      {"udp", {{}, ports.udp, ProbeQuestion::Udp{"ping", ""}}},
  };
  const std::vector<std::string> asked(argv + std::min(argc, 3), argv + argc);
  for (const auto& [name, question] : kinds) {
    if (asked.empty() ? name != "https" : std::count(asked.begin(), asked.end(), name) > 0) {
      Run(name, question, rate, seconds);
    }
  }
  return 0;
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) { return guideway::Main(argc, argv); }
