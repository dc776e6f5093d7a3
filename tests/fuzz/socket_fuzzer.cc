// Any bytes on the control socket, in pieces: the real server and controller over fakes. Whatever
// comes, every answer is one of those there are, none is the server's own fault, and once the
// client has said all the connection ends.
//
// The input's first byte says in how many pieces the rest is sent.
#include <glog/logging.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "control/api_server.h"
#include "control/controller.h"
#include "tests/fuzz/check.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/fake_prober.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using Clock = std::chrono::steady_clock;

const std::string& Path() {
  static const std::string path = [] {
    FLAGS_logtostderr = true;
    FLAGS_minloglevel = google::GLOG_FATAL;
    char name[] = "/tmp/guideway-fuzz.XXXXXX";
    CHECK_THAT(mkdtemp(name) != nullptr);
    static const std::string directory = name;
    std::atexit([] { rmdir(directory.c_str()); });
    return directory + "/socket";
  }();
  return path;
}

const LoadedConfig& Config() {
  static const LoadedConfig config = LoadText(ConfigText(ServiceText(
      "web", 1, "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2, state: drain }",
      "health_check: { tcp: {} }")));
  return config;
}

class Daemon {
 public:
  Daemon() {
    CHECK_THAT(controller_.Start().ok());
    auto server = ApiServer::Listen(io_, &controller_, Path());
    CHECK_THAT(server.ok());
    server_ = *std::move(server);
  }

  // What is answered to these bytes.
  std::string Ask(absl::string_view bytes, size_t pieces) {
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, Path().data(), Path().size());
    CHECK_THAT(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    std::string answers;
    bool open = true;
    for (size_t left = pieces; left > 0 && open; --left) {
      const absl::string_view piece = bytes.substr(0, bytes.size() / left);
      bytes.remove_prefix(piece.size());
      open = SendAll(client, piece, &answers);
    }
    shutdown(client, SHUT_WR);
    const Clock::time_point patience = Clock::now() + std::chrono::seconds(5);
    while (Read(client, &answers)) {
      io_.run_one_for(std::chrono::milliseconds(1));  // maybe for the thread that makes texts
      Turn();
      CHECK_THAT(Clock::now() < patience);
    }
    close(client);
    return answers;
  }

 private:
  // False if the other side does not want more.
  bool SendAll(int client, absl::string_view piece, std::string* answers) {
    while (!piece.empty()) {
      const ssize_t sent = send(client, piece.data(), piece.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return false;
      if (sent > 0) piece.remove_prefix(static_cast<size_t>(sent));
      Turn();
      if (!Read(client, answers)) return false;
    }
    return true;
  }
  void Turn() {
    io_.restart();
    io_.poll();
    loop_.RunAll();
  }
  // What is there; false at the end.
  static bool Read(int client, std::string* answers) {
    char buffer[65536];
    for (;;) {
      const ssize_t size = recv(client, buffer, sizeof(buffer), 0);
      if (size < 0) return errno == EAGAIN;
      if (size == 0) return false;
      answers->append(buffer, static_cast<size_t>(size));
    }
  }

  boost::asio::io_context io_;
  FakeEventLoop loop_;
  FakeProber prober_{&loop_};
  FakeDataplane dataplane_;
  Controller controller_{
      &loop_, &prober_, &dataplane_,
      Controller::Options{.config_file = "/nonexistent/guideway.yaml",
                          .version = "fuzz",
                          .own_addresses = [] { return std::vector<IpAddress>(); }},
      Config()};
  std::unique_ptr<ApiServer> server_;
};

// Each answer is whole but maybe the last, and of a status that has a meaning here.
void CheckAnswers(absl::string_view answers) {
  while (!answers.empty()) {
    CHECK_THAT(answers.substr(0, 9) == "HTTP/1.1 ");
    int status = 0;
    CHECK_THAT(absl::SimpleAtoi(answers.substr(9, 3), &status));
    switch (status) {
      case 100:
      case 200:
      case 400:
      case 404:
      case 405:
      case 409:
      case 413:
      case 422:
      case 503: break;
      default: CHECK_THAT(!"a status that nobody gives");
    }
    const size_t head = answers.find("\r\n\r\n");
    CHECK_THAT(head != absl::string_view::npos);
    size_t length = 0;
    const size_t at = answers.find("Content-Length: ");
    if (status != 100) {
      CHECK_THAT(at < head);
      absl::string_view digits = answers.substr(at + 16);
      CHECK_THAT(absl::SimpleAtoi(digits.substr(0, digits.find('\r')), &length));
    }
    CHECK_THAT(answers.size() >= head + 4 + length);
    answers.remove_prefix(head + 4 + length);
  }
}

}  // namespace
}  // namespace guideway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  guideway::Path();
  guideway::Daemon daemon;
  guideway::CheckAnswers(daemon.Ask(input, 1 + data[0] % 4));
  return 0;
}
