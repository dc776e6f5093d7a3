#include "control/api_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/support/api_daemon.h"

namespace guideway {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kAb[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2, state: drain }";

// A client that says and reads bytes. Nothing here waits longer than a minute, and nothing waits
// that long unless the test fails.
class Client {
 public:
  explicit Client(const Endpoint& endpoint) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(endpoint.port)};
    std::memcpy(&address.sin_addr, endpoint.address.bytes(), sizeof(address.sin_addr));
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      ADD_FAILURE() << "cannot connect: " << std::strerror(errno);
    }
  }
  explicit Client(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, path.data(), path.size());
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      ADD_FAILURE() << "cannot connect to " << path << ": " << std::strerror(errno);
    }
  }
  Client& operator=(Client&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Client(Client&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Client() {
    if (fd_ >= 0) close(fd_);
  }

  // Stops early when the other side does not want more.
  Client& Say(const std::string& bytes) {
    said_ = 0;
    while (said_ < bytes.size()) {
      const ssize_t n = send(fd_, bytes.data() + said_, bytes.size() - said_, MSG_NOSIGNAL);
      if (n <= 0) break;
      said_ += static_cast<size_t>(n);
    }
    return *this;
  }
  // What has come and is not read yet.
  std::string WhatIsThere() {
    char buffer[4096];
    const ssize_t n = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_PEEK);
    return n <= 0 ? "" : std::string(buffer, static_cast<size_t>(n));
  }
  // How much of the last Say.
  size_t said() const { return said_; }
  void EndOfRequest() { shutdown(fd_, SHUT_WR); }

  // Until the other side closes.
  std::string ReadAll() {
    return ReadWhile([](const std::string&) { return true; });
  }
  // One answer with a body.
  std::string ReadAnswer() {
    return ReadWhile([](const std::string& so_far) {
      const size_t head = so_far.find("\r\n\r\n");
      const size_t length = so_far.find("Content-Length: ");
      return head == std::string::npos || length == std::string::npos ||
             so_far.size() < head + 4 + std::stoul(so_far.substr(length + 16));
    });
  }
  std::string ReadUntil(const std::string& text) {
    return ReadWhile(
        [&](const std::string& so_far) { return so_far.find(text) == std::string::npos; });
  }

 private:
  template <typename More>
  std::string ReadWhile(const More& more) {
    std::string out;
    while (more(out)) {
      pollfd p = {.fd = fd_, .events = POLLIN, .revents = 0};
      if (poll(&p, 1, 60'000) <= 0) {
        ADD_FAILURE() << "no end after: " << out;
        break;
      }
      char buffer[4096];
      const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      out.append(buffer, static_cast<size_t>(n));
    }
    return out;
  }

  int fd_;
  size_t said_ = 0;
};

std::string Get(const std::string& path) {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: guideway\r\n\r\n");
}
std::string Post(const std::string& path, const std::string& body, const std::string& more = "") {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: guideway\r\n", more,
                      "Content-Length: ", body.size(), "\r\n\r\n", body);
}

class ApiServerTest : public testing::Test {
 protected:
  void Start(HttpLimits limits = {}) {
    daemon_.emplace(ConfigText(ServiceText("web", 1, kAb)), limits);
  }
  std::string Answer(const std::string& request) {
    return Client(daemon_->socket()).Say(request).ReadAnswer();
  }
  void ExpectItServes() {
    EXPECT_THAT(Answer(Get("/v1/status")), StartsWith("HTTP/1.1 200 OK\r\n"));
  }

  std::optional<ApiDaemon> daemon_;
};

TEST_F(ApiServerTest, AnswersAsTheSchemaSays) {
  Start();
  daemon_->Do([&] { daemon_->dataplane().by_service[0].packets = 1; });
  std::string answer = Answer(Get("/v1/status"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(answer, HasSubstr("\"state\":\"serving\""));
  EXPECT_THAT(answer, HasSubstr("\"config_error\":\"\"")) << "zeros are written out";
  EXPECT_THAT(answer, HasSubstr("\"rate_limited\":\"0\""));
  answer = Answer(Get("/v1/services"));
  EXPECT_THAT(answer, HasSubstr("\"name\":\"web\""));
  EXPECT_THAT(answer, HasSubstr("\"packets\":\"1\""));
  answer = Answer(Get("/v1/backends"));
  EXPECT_THAT(answer, HasSubstr("\"address\":\"10.0.0.1\""));
  EXPECT_THAT(answer, HasSubstr("\"share\":1"));
  EXPECT_THAT(answer, HasSubstr("\"drained_by_hand\":false"));
}

TEST_F(ApiServerTest, DrainAndApplyAreAnsweredWhenInForce) {
  Start();
  EXPECT_THAT(Answer(Post("/v1/drain", R"({"service": "web", "backend": "a"})")),
              StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(Answer(Get("/v1/backends")), HasSubstr("\"drained_by_hand\":true"));
  EXPECT_THAT(Answer(Post("/v1/undrain", R"({"service": "web", "backend": "a"})")),
              StartsWith("HTTP/1.1 200 OK\r\n"));
  const std::string text = ConfigText(ServiceText("other", 1, ""));
  EXPECT_THAT(Answer(Post("/v1/apply", text)), HasSubstr("{\"revision\":\"4\",\"warnings\":["));
  EXPECT_THAT(Answer(Get("/v1/services")), HasSubstr("\"name\":\"other\""));
}

TEST_F(ApiServerTest, WhatChangesNothingSaysSo) {
  Start();
  const std::string a = R"({"service": "web", "backend": "a"})";
  EXPECT_THAT(Answer(Post("/v1/drain", a)), EndsWith("{\"changed\":true,\"warnings\":[]}\n"));
  EXPECT_THAT(Answer(Post("/v1/drain", a)), EndsWith("{\"changed\":false,\"warnings\":[]}\n"));
  EXPECT_THAT(Answer(Post("/v1/undrain", a)), EndsWith("{\"changed\":true,\"warnings\":[]}\n"));
  EXPECT_THAT(Answer(Post("/v1/undrain", a)), EndsWith("{\"changed\":false,\"warnings\":[]}\n"));
  EXPECT_THAT(Answer(Post("/v1/weight", a)), EndsWith("{\"changed\":false,\"warnings\":[]}\n"));
}

TEST_F(ApiServerTest, APlanMayDiscardOverrides) {
  Start();
  Answer(Post("/v1/drain", R"({"service": "web", "backend": "a"})"));
  const std::string text = ConfigText(ServiceText("web", 1, kAb));
  const std::string undone =
      R"("overrides_undone":[{"service":"web","backend":"a","drained":true}])";
  EXPECT_THAT(Answer(Post("/v1/plan", text)), HasSubstr("\"overrides_undone\":[]"));
  EXPECT_THAT(Answer(Post("/v1/plan?discard_overrides=true", text)), HasSubstr(undone));
  EXPECT_THAT(Answer(Post("/v1/apply?discard_overrides=true", text)), HasSubstr(undone));
}

TEST_F(ApiServerTest, HistoryRollbackAndWeight) {
  Start();
  const std::string a_weighs = R"({"service": "web", "backend": "a", "weight": )";
  EXPECT_THAT(Answer(Post("/v1/weight", a_weighs + "7}")), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(Answer(Get("/v1/backends")),
              AllOf(HasSubstr("\"weight\":7,"), HasSubstr("\"file_weight\":100"),
                    HasSubstr("\"weight_by_hand\":true")));
  const std::string text = ConfigText(ServiceText("other", 1, "") + ServiceText("web", 2, kAb));
  EXPECT_THAT(Answer(Post("/v1/apply?discard_overrides=true", text, "Guideway-File: my.yaml\r\n")),
              HasSubstr("{\"revision\":\"3\""));
  const std::string answer = Answer(Get("/v1/history"));
  for (const char* part :
       {"\"number\":\"1\"", "\"who\":\"start\"", "\"how\":\"weight web/a 7\"",
        "\"overrides\":[{\"service\":\"web\",\"backend\":\"a\",\"drained\":false,\"weight\":7",
        "\"file\":\"my.yaml\",\"digest\":\""}) {
    EXPECT_THAT(answer, HasSubstr(part));
  }
  EXPECT_THAT(answer, EndsWith("\"overrides\":[]}]}\n"));
  EXPECT_THAT(Answer(Get("/v1/history?revision=3")), HasSubstr("name: other"));
  EXPECT_THAT(Answer(Post("/v1/rollback", R"({"revision": "2"})")),
              HasSubstr("{\"revision\":\"4\",\"warnings\":["));
  EXPECT_THAT(Answer(Get("/v1/services")), Not(HasSubstr("\"name\":\"other\"")));
  EXPECT_THAT(Answer(Post("/v1/rollback", "")), HasSubstr("\"rolled_back_to\":\"3\""));
  EXPECT_THAT(Answer(Post("/v1/weight", R"({"service": "web", "backend": "a"})")),
              StartsWith("HTTP/1.1 200 OK\r\n"));

  struct {
    std::string request;
    std::string status;
    std::string text;
  } rows[] = {
      {Get("/v1/history?revision=9"), "404", "there are 1 to 5"},
      {Get("/v1/history?revision=x"), "400", "is no number"},
      {Get("/v1/history?number=1"), "400", "there are revision"},
      {Get("/v1/status?x=1"), "400", "there are none"},
      {Post("/v1/rollback", R"({"revision": "9"})"), "404", "there are 1 to 5"},
      {Post("/v1/rollback", "[]"), "400", "the body is not"},
      {Post("/v1/rollback?max_moved=2", ""), "400", "max_moved is not a share from 0 to 1"},
      {Post("/v1/rollback?max_moved=0.01", R"({"revision": "1"})"), "422",
       "revision 1 is not put in force"},
      {Post("/v1/plan?revision=9", ""), "404", "there are 1 to 5"},
      {Post("/v1/plan?revision=x", ""), "400", "is no number"},
      {Post("/v1/plan?revision=3", text), "400", "neither a body"},
      {Post("/v1/plan?revision=3&discard_overrides=true", ""), "400", "nor another parameter"},
      {Post("/v1/plan?revision=3", ""), "200", "\"rolled_back_to\":\"3\""},
      {Post("/v1/weight", a_weighs + "65536}"), "400", "N from 0 to 65535"},
      {Post("/v1/weight", a_weighs + "-1}"), "400", "the body is not"},
      {Post("/v1/weight", "{}"), "400", "the body is not"},
      {Post("/v1/weight", R"({"service": "web", "backend": "x", "weight": 1})"), "404", "it has"},
      {Post("/v1/apply?discard_overrides=2", text), "400", "true or false"},
  };
  for (const auto& row : rows) {
    const std::string refused = Answer(row.request);
    EXPECT_THAT(refused, StartsWith("HTTP/1.1 " + row.status + " ")) << row.request.substr(0, 80);
    EXPECT_THAT(refused, HasSubstr(row.text)) << row.request.substr(0, 80);
  }
}

TEST_F(ApiServerTest, Refusals) {
  Start({.large_body_bytes = 100000, .body_bytes = 1000});
  const std::string big(2000, ' '), huge(100001, ' ');
  struct {
    std::string request;
    std::string status;
    std::string text;
  } rows[] = {
      {Get("/v1/nothing"), "404", "/v1/status"},
      {Get("/"), "404", "no such path"},
      {Get("/v1/apply"), "405", "POST"},
      {Post("/v1/status", ""), "405", "GET"},
      {"BREW /v1/status HTTP/1.1\r\n\r\n", "405", "GET"},
      {"this is no request\r\n\r\n", "400", "not an HTTP request"},
      {"GET /v1/status HTTP/9.9\r\n\r\n", "400", "not an HTTP request"},
      {Get("/" + std::string(10000, 'x')), "400", "not an HTTP request"},
      {Post("/v1/drain", ""), "400", "the body is not"},
      {Post("/v1/drain", "{"), "400", "the body is not"},
      {Post("/v1/drain", "[1, 2]"), "400", "the body is not"},
      {Post("/v1/drain", R"({"service": "web"})"), "400", "the body is not"},
      {Post("/v1/drain", R"({"service": "web", "backend": "a", "x": 1})"), "400",
       "the body is not"},
      {Post("/v1/drain", std::string(900, '[')), "400", "the body is not"},
      {Post("/v1/drain", "{\"service\": \"\xff\", \"backend\": \"a\"}"), "400", "the body is not"},
      {Post("/v1/drain", R"({"service": "web", "backend": "x"})"), "404", "it has"},
      {Post("/v1/undrain", R"({"service": "web", "backend": "b"})"), "409", "state: drain"},
      {Post("/v1/apply", "services: 3"), "422", "configuration:1:"},
      {Post("/v1/apply", "services: 3", "Guideway-File: my.yaml\r\n"), "422", "my.yaml:1:"},
      {Post("/v1/apply", "a: \xff\xfe"), "422", "UTF-8"},
      {Post("/v1/apply", ""), "422", "configuration:"},
      {Post("/v1/drain", big), "413", "more than 1000 bytes"},
      {Post("/v1/apply", huge), "413", "more than 100000 bytes"},
      {"POST /v1/apply HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", "413", "100000"},
      {"POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + big +
           "\r\n0\r\n\r\n",
       "413", "more than 1000 bytes"},
      {"POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400",
       "not an HTTP request"},
  };
  for (const auto& row : rows) {
    const std::string answer = Answer(row.request);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 " + row.status + " ")) << row.request.substr(0, 80);
    EXPECT_THAT(answer, HasSubstr("{\"error\":\"")) << row.request.substr(0, 80);
    EXPECT_THAT(answer, HasSubstr(row.text)) << row.request.substr(0, 80);
  }
  EXPECT_THAT(Answer(Get("/v1/drain")), HasSubstr("\r\nAllow: POST\r\n"));
  ExpectItServes();
}

TEST_F(ApiServerTest, AConnectionServesOneRequestAfterTheOther) {
  Start();
  Client client(daemon_->socket());
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(client.Say(Get("/v1/status")).ReadAnswer(), StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(client.Say(Post("/v1/drain", "{}")).ReadAnswer(), StartsWith("HTTP/1.1 400"));
    EXPECT_THAT(client.Say(Get("/v1/nothing")).ReadAnswer(), StartsWith("HTTP/1.1 404"));
    client = Client(daemon_->socket());  // a refusal before the body ends the connection
  }
}

TEST_F(ApiServerTest, BodiesInChunksAndAfterContinue) {
  Start();
  const std::string body = R"({"service": "web", "backend": "a"})";
  EXPECT_THAT(Answer("POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" +
                     body.substr(0, 5) + "\r\n" + absl::StrCat(absl::Hex(body.size() - 5)) +
                     "\r\n" + body.substr(5) + "\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 200 OK\r\n"));

  const std::string text = ConfigText(ServiceText("web", 1, kAb));
  Client client(daemon_->socket());
  client.Say(absl::StrCat("POST /v1/apply HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: ",
                          text.size(), "\r\n\r\n"));
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_THAT(client.Say(text).ReadAnswer(), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ApiServerTest, SlowClientsAreClosedAndHoldUpNobody) {
  Start({.head_timeout = absl::Milliseconds(50), .body_timeout = absl::Milliseconds(50)});
  Client silent(daemon_->socket()), half_head(daemon_->socket()), half_body(daemon_->socket());
  half_head.Say("GET /v1/sta");
  half_body.Say("POST /v1/drain HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
  ExpectItServes();
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_EQ(half_head.ReadAll(), "");
  EXPECT_EQ(half_body.ReadAll(), "");
}

TEST_F(ApiServerTest, AClientThatDoesNotTakeItsAnswersIsClosed) {
  Start({.body_timeout = absl::Milliseconds(50)});
  Client deaf(daemon_->socket());
  // Answers pile up until the socket is full, then the next write waits, until its time is over.
  // Say returns because the connection is closed, with requests left to say.
  std::string requests;
  for (int i = 0; i < 20000; ++i) requests += Get("/v1/status");
  deaf.Say(requests);
  ExpectItServes();
}

// Slowloris: a byte now and then does not make the time longer.
TEST_F(ApiServerTest, AHeadThatDripsIsCutOff) {
  Start({.head_timeout = absl::Milliseconds(50)});
  Client slow(daemon_->socket());
  slow.Say("GET /v1/status HTTP/1.1\r\nX-A: ");
  int drops = 0;
  do {
    ExpectItServes();  // takes its time
    slow.Say("x");
    ASSERT_LT(++drops, 8000) << "and the head would be too long";
  } while (slow.said() == 1);
  EXPECT_EQ(slow.ReadAll(), "");
}

TEST_F(ApiServerTest, WhoIsRefusedAndGoesOnSendingIsCutOff) {
  Start({.body_timeout = absl::Minutes(10)});
  for (const char* head : {"POST /v1/drain HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                           "POST /v1/nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                           "this is no request\r\n\r\n"}) {
    Client client(daemon_->socket());
    client.Say(head + std::string(64 << 20, 'x'));
    EXPECT_LT(client.said(), size_t{8} << 20) << head;
    EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 4")) << head;
  }
  ExpectItServes();
}

TEST_F(ApiServerTest, ABodyWithoutEndIsCutOff) {
  Start({.body_timeout = absl::Minutes(10), .large_body_bytes = 1 << 20});
  for (const char* path : {"/v1/drain", "/v1/apply"}) {
    std::string endless =
        absl::StrCat("POST ", path, " HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = absl::StrCat("1000\r\n", std::string(4096, 'x'), "\r\n");
    for (int i = 0; i < 10000; ++i) endless += chunk;
    Client client(daemon_->socket());
    EXPECT_LT(client.Say(endless).said(), size_t{8} << 20) << path;
    EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 413 ")) << path;
  }
  // What is no body does not count as one, and has an end all the same.
  Client client(daemon_->socket());
  client.Say("POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=" +
             std::string(16 << 20, 'x'));
  EXPECT_LT(client.said(), size_t{8} << 20);
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 400 "));
}

TEST_F(ApiServerTest, OneAfterTheOtherWithoutWaitingForAnswers) {
  Start();
  Client client(daemon_->socket());
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += Get("/v1/status");
  requests += Get("/v1/nothing");
  const std::string all = client.Say(requests).ReadAll();
  size_t answers = 0;
  for (size_t at = 0; (at = all.find("HTTP/1.1 200 OK", at)) != std::string::npos; ++at) ++answers;
  EXPECT_EQ(answers, 100u);
  EXPECT_THAT(all, HasSubstr("HTTP/1.1 404 "));
}

// Texts take time: those who ask while one is made get the next, all the same one.
TEST_F(ApiServerTest, AnAnswerIsOfNoMomentBeforeItsRequest) {
  // So many that their text takes longer than to ask for the next.
  std::string services;
  for (int i = 0; i < 200; ++i) services += ServiceText(absl::StrCat("web-", i), i, kAb);
  daemon_.emplace(ConfigText(services));
  for (int i = 1; i < 20; ++i) {
    Client other(daemon_->socket());
    other.Say(Get("/v1/services"));  // may be under way, with a count of before
    daemon_->Do([&] { daemon_->dataplane().by_service[0].packets = static_cast<uint64_t>(i); });
    EXPECT_THAT(Answer(Get("/v1/services")), HasSubstr(absl::StrCat("\"packets\":\"", i, "\"")));
  }
}

TEST_F(ApiServerTest, OfTooManyConnectionsTheLongestIdleIsClosed) {
  Start({.connections = 4});
  std::vector<Client> idle;
  for (int i = 0; i < 50; ++i) idle.emplace_back(daemon_->socket());
  ExpectItServes();
  EXPECT_THAT(idle[0].ReadAll(),
              AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("nothing was begun")));
}

TEST_F(ApiServerTest, LargeBodiesAreBoundedTogether) {
  Start({.large_body_bytes = 1 << 20, .body_bytes = 100, .large_bodies = 1});
  Client first(daemon_->socket());
  const std::string head = "POST /v1/apply HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
  // The first has been let in when it is told to continue.
  first.Say("POST /v1/apply HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_THAT(first.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
  EXPECT_THAT(Answer(head + std::string(1000, ' ')), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(first.Say(std::string(1000, ' ')).ReadAnswer(), StartsWith("HTTP/1.1 422"));
  EXPECT_THAT(Answer(head + std::string(1000, ' ')), StartsWith("HTTP/1.1 422"));
}

// A text that waits for its turn is in memory too.
TEST_F(ApiServerTest, LargeBodiesCountUntilTheyAreAnswered) {
  Start({.large_body_bytes = 1 << 20, .body_bytes = 100, .large_bodies = 1});
  const std::string large = Post("/v1/apply", ConfigText(ServiceText("web", 1, kAb)));
  std::promise<void> go;
  daemon_->Do([&] { daemon_->loop().RunOnHelper([&] { go.get_future().wait(); }, [] {}); });
  Client first(daemon_->socket());
  first.Say(large);
  ExpectItServes();  // and by then it has the first's body, which waits for its Compile
  EXPECT_THAT(Answer(large), StartsWith("HTTP/1.1 503"));
  go.set_value();
  EXPECT_THAT(first.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Answer(large), StartsWith("HTTP/1.1 200"));
}

// But for a text that is in force nobody waits for the disk.
TEST_F(ApiServerTest, ADiskThatHangsKeepsNoRoomOfLargeBodies) {
  Start({.large_body_bytes = 1 << 20, .body_bytes = 100, .large_bodies = 1});
  std::promise<void> go;
  daemon_->Do([&] { daemon_->disk().RunOnHelper([&] { go.get_future().wait(); }, [] {}); });
  const std::string large = Post("/v1/apply", ConfigText(ServiceText("web", 1, kAb)));
  Client first(daemon_->socket()), second(daemon_->socket());
  first.Say(large);
  while (!absl::StrContains(Answer(Get("/v1/status")), "\"revision\":\"2\"")) {
  }
  second.Say(large);
  std::string so_far;
  while (!absl::StrContains(so_far = Answer(Get("/v1/status")), "\"revision\":\"3\"")) {
    if (absl::StrContains(second.WhatIsThere(), "503")) break;
  }
  EXPECT_THAT(so_far, HasSubstr("\"revision\":\"3\""));
  go.set_value();
  EXPECT_THAT(first.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(second.ReadAnswer(), StartsWith("HTTP/1.1 200"));
}

// What the disk does not give in time may be had later.
TEST_F(ApiServerTest, ADiskThatDoesNotAnswerIsA503WithRetryAfter) {
  Start();
  std::promise<void> go;
  daemon_->Do([&] { daemon_->disk().RunOnHelper([&] { go.get_future().wait(); }, [] {}); });
  const auto in_a_while = AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("\r\nRetry-After: 10\r\n"),
                                HasSubstr("revision 1 could not be read within 10s"));
  Client client(daemon_->socket());
  client.Say(Post("/v1/rollback", R"({"revision": "1"})"));
  EXPECT_THAT(client.ReadAnswer(), in_a_while);
  EXPECT_THAT(Answer(Get("/v1/history?revision=1")), in_a_while) << "known by now";
  go.set_value();
}

TEST_F(ApiServerTest, WhoHangsUpLeavesItsPlaceAndGetsWhatItAskedFor) {
  Start({.connections = 8});
  std::promise<void> go;
  daemon_->Do([&] { daemon_->disk().RunOnHelper([&] { go.get_future().wait(); }, [] {}); });
  const std::string drain = Post("/v1/drain", R"({"service": "web", "backend": "a"})");
  std::vector<Client> clients;
  for (int i = 0; i < 6; ++i) clients.emplace_back(daemon_->socket()).Say(drain);
  // What it says last is that it has said all: that is no hanging up.
  clients[0].EndOfRequest();
  EXPECT_THAT(Answer(Get("/v1/status")), HasSubstr("as many requests of user"));
  clients.erase(clients.begin() + 1, clients.end());
  // The loop has looked at its sockets between the two.
  for (int i = 0; i < 2; ++i) daemon_->Do([] {});
  EXPECT_THAT(Answer(Get("/v1/backends")), HasSubstr("\"drained_by_hand\":true"));
  go.set_value();
  EXPECT_THAT(clients[0].ReadAnswer(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ApiServerTest, ClientsThatGoAwayAtAnyMoment) {
  Start();
  const std::string request = Post("/v1/apply", ConfigText(ServiceText("web", 1, kAb)));
  for (size_t cut = 0; cut <= request.size(); cut += 7) {
    Client(daemon_->socket()).Say(request.substr(0, cut));
  }
  ExpectItServes();
}

TEST_F(ApiServerTest, RandomBytes) {
  Start();
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const std::string good = Post("/v1/drain", R"({"service": "web", "backend": "a"})");
  for (int i = 0; i < 300; ++i) {
    std::string bytes = good;
    for (uint64_t n = random() % 8 + 1; n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    Client client(daemon_->socket());
    client.Say(bytes).EndOfRequest();
    client.ReadAll();
  }
  ExpectItServes();
}

TEST_F(ApiServerTest, TheSocketIsForItsGroupAndGoesWithTheServer) {
  Start();
  struct stat found;
  ASSERT_EQ(stat(daemon_->socket().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0660u);
  const std::string path = daemon_->socket();
  daemon_.reset();
  EXPECT_NE(stat(path.c_str(), &found), 0);
}

// A user of no group, in a thread: on Linux credentials belong to threads, and what a socket's
// other end is told is those of the thread that connected.
template <typename Task>
void AsNobody(const Task& task, long user = 65534) {
  std::thread([&] {
    const bool ok = syscall(SYS_setgroups, 0, nullptr) == 0 &&
                    syscall(SYS_setresgid, user, user, user) == 0 &&
                    syscall(SYS_setresuid, user, user, user) == 0;
    ASSERT_TRUE(ok) << std::strerror(errno);
    task();
  }).join();
}

class AccessTest : public ApiServerTest {
 protected:
  void Start(const std::string& control) {
    if (geteuid() != 0) GTEST_SKIP() << "takes root, to be somebody else";
    const auto access = ControlAccess::ForConfig(
        LoadText(absl::StrCat(ConfigText(ServiceText("web", 1, kAb)), control, "\n")));
    ASSERT_TRUE(access.ok()) << access.status();
    daemon_.emplace(ConfigText(ServiceText("web", 1, kAb)), HttpLimits(), *access);
    ASSERT_EQ(chmod(daemon_->directory().c_str(), 0755), 0);
  }
};

TEST_F(AccessTest, AReaderReadsAndChangesNothingByAnyRoute) {
  Start("control: { group: daemon, readers: everyone }");
  if (IsSkipped()) return;
  struct stat found;
  ASSERT_EQ(stat(daemon_->socket().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0666u);
  EXPECT_EQ(found.st_gid, 1u);

  const std::string all = Answer(Get("/"));
  const std::string begin = "there are ";
  std::vector<std::string> paths = absl::StrSplit(all.substr(all.find(begin) + begin.size()), ", ");
  paths.back().erase(paths.back().find('"'));
  ASSERT_GE(paths.size(), 7u);
  int refused = 0, read = 0;
  AsNobody([&] {
    for (const std::string& path : paths) {
      if (path == "/v1/flows/entries") continue;  // comes in pieces, without a length
      const std::string got = Answer(Get(path)), posted = Answer(Post(path, "{}"));
      // 400: it is for the method, and wants to know more.
      if (absl::StartsWith(got, "HTTP/1.1 200 ") || absl::StartsWith(got, "HTTP/1.1 400 ")) {
        ++read;
        EXPECT_THAT(posted, StartsWith("HTTP/1.1 405 ")) << path;
      } else {
        ++refused;
        EXPECT_THAT(got, StartsWith("HTTP/1.1 405 ")) << path;
        EXPECT_THAT(posted, StartsWith("HTTP/1.1 403 ")) << path;
        EXPECT_THAT(posted, HasSubstr("{\"error\":\"user 65534 may read, but not change anything"));
        EXPECT_THAT(posted, HasSubstr("adduser USER daemon")) << path;
      }
    }
  });
  EXPECT_GE(read, 4);
  EXPECT_GE(refused, 3);
  EXPECT_THAT(Answer(Post("/v1/drain", R"({"service": "web", "backend": "a"})")),
              StartsWith("HTTP/1.1 200 OK\r\n"))
      << "root may";
}

TEST_F(AccessTest, AStrangerGetsNothingWhateverTheyAsk) {
  Start("control: { group: daemon, readers: adm }");
  if (IsSkipped()) return;
  AsNobody([&] {
    for (const std::string& request :
         {Get("/v1/status"), Get("/metrics"), Get("/v1/nothing"), Post("/v1/drain", "{}"),
          Post("/v1/apply", std::string(100'000, ' '))}) {
      const std::string answer = Answer(request);
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 403 ")) << request.substr(0, 40);
      EXPECT_THAT(answer, HasSubstr("user 65534 may not use the control socket"));
    }
  });
  ExpectItServes();
}

TEST_F(AccessTest, WithoutReadersAStrangerCannotConnect) {
  Start("control: { group: daemon }");
  if (IsSkipped()) return;
  AsNobody([&] {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, daemon_->socket().data(), daemon_->socket().size());
    EXPECT_NE(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(errno, EACCES);
    close(fd);
  });
}

TEST_F(AccessTest, OneUserCannotPushAnotherOut) {
  Start("control: { group: daemon, readers: everyone }");
  if (IsSkipped()) return;
  Client idle(daemon_->socket());
  EXPECT_THAT(idle.Say(Get("/v1/status")).ReadAnswer(), StartsWith("HTTP/1.1 200 "));
  AsNobody([&] {
    std::vector<Client> flood;
    for (int i = 0; i < 300; ++i) flood.emplace_back(daemon_->socket());
    EXPECT_THAT(flood.back().Say(Get("/v1/status")).ReadAnswer(), StartsWith("HTTP/1.1 200 "));
    EXPECT_THAT(flood[0].ReadAll(), HasSubstr("others need this connection"));
    EXPECT_THAT(idle.Say(Get("/v1/status")).ReadAnswer(), StartsWith("HTTP/1.1 200 "));
  });
}

// A user whose requests all wait for answers is told so, and others are served.
TEST_F(AccessTest, OneUserCannotHaveAllAnswers) {
  Start("control: { group: daemon, readers: everyone }");
  if (IsSkipped()) return;
  std::promise<void> go;
  daemon_->Do([&] { daemon_->loop().RunOnHelper([&] { go.get_future().wait(); }, [] {}); });
  std::vector<Client> flood;
  int turned_away = 0;
  for (int i = 0; i < 100; ++i) {
    Client client(daemon_->socket());
    client.Say(Post("/v1/drain", R"({"service": "web", "backend": "a"})"));
    // All of it has been heard when the thread has turned around.
    for (int turn = 0; turn < 5; ++turn) daemon_->Do([] {});
    flood.push_back(std::move(client));
  }
  for (size_t i = 48; i < flood.size(); ++i) {
    turned_away += absl::StrContains(
        flood[i].ReadAnswer(), "as many requests of user 0 as one may have at a time, 48, wait");
  }
  EXPECT_EQ(turned_away, 52);
  AsNobody([&] { ExpectItServes(); });
  go.set_value();
  for (size_t i = 0; i < 48; ++i) EXPECT_THAT(flood[i].ReadAnswer(), StartsWith("HTTP/1.1 200 "));
  ExpectItServes();
}

TEST_F(AccessTest, ReadersCannotHaveTheRoomOfThoseWhoChange) {
  Start("control: { group: daemon, readers: everyone }");
  if (IsSkipped()) return;
  std::promise<void> go;
  daemon_->Do([&] { daemon_->disk().RunOnHelper([&] { go.get_future().wait(); }, [] {}); });
  std::vector<Client> flood;
  for (const long user : {65534, 65533}) {
    AsNobody(
        [&] {
          for (int i = 0; i < 60; ++i) {
            flood.emplace_back(daemon_->socket());
            flood.back().Say(Get("/v1/history?revision=1"));
            for (int turn = 0; turn < 5; ++turn) daemon_->Do([] {});
          }
        },
        user);
  }
  EXPECT_THAT(flood[59].ReadAnswer(), HasSubstr("as many requests of user 65534 as one may have"));
  EXPECT_THAT(flood[119].ReadAnswer(),
              HasSubstr("as many requests of those who may only read as there may be at a time, "
                        "48, wait for their answers"));
  for (int i = 0; i < 20; ++i) ExpectItServes();
  EXPECT_THAT(Answer(Post("/v1/undrain", R"({"service": "web", "backend": "a"})")),
              StartsWith("HTTP/1.1 200 "));
  go.set_value();
  EXPECT_THAT(flood[0].ReadAnswer(), StartsWith("HTTP/1.1 200 "));
}

// Each knows what came of its request.
TEST_F(ApiServerTest, NoRequestIsClosedForAnother) {
  Start({.connections = 8});
  for (int round = 0; round < 20; ++round) {
    std::vector<Client> clients;
    for (int i = 0; i < 40; ++i) {
      clients.emplace_back(daemon_->socket());
      clients.back().Say(Get("/v1/status"));
    }
    for (Client& client : clients) {
      EXPECT_THAT(client.ReadAnswer(),
                  AnyOf(StartsWith("HTTP/1.1 200 "), StartsWith("HTTP/1.1 503 ")));
    }
  }
}

TEST_F(ApiServerTest, ABodyOnItsWayIsNotClosedForAnother) {
  Start({.connections = 4});
  Client slow(daemon_->socket());
  const std::string request = Post("/v1/drain", R"({"service": "web", "backend": "a"})");
  slow.Say(request.substr(0, request.size() - 1));
  for (int i = 0; i < 20; ++i) ExpectItServes();
  std::vector<Client> idle;
  for (int i = 0; i < 20; ++i) idle.emplace_back(daemon_->socket());
  ExpectItServes();
  EXPECT_THAT(slow.Say(request.substr(request.size() - 1)).ReadAnswer(),
              StartsWith("HTTP/1.1 200 "));
}

TEST_F(ApiServerTest, HeadIsAGetWithoutTheBody) {
  Start();
  Client client(daemon_->socket());
  const std::string got = client.Say(Get("/v1/history")).ReadAnswer();
  const auto head = [](const std::string& path) {
    return absl::StrCat("HEAD ", path, " HTTP/1.1\r\nHost: guideway\r\n\r\n");
  };
  EXPECT_EQ(client.Say(head("/v1/history")).ReadUntil("\r\n\r\n"),
            got.substr(0, got.find("\r\n\r\n") + 4));
  EXPECT_THAT(client.Say(head("/v1/flows/entries")).ReadUntil("\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(client.Say(Get("/v1/history")).ReadAnswer(), StartsWith("HTTP/1.1 200 OK\r\n"))
      << "nothing came between";
  EXPECT_THAT(
      client.Say(head("/v1/drain")).ReadAll(),
      AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("\r\nAllow: POST\r\n"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(Answer(Post("/v1/status", "")), HasSubstr("\r\nAllow: GET, HEAD\r\n"));
}

TEST_F(ApiServerTest, TargetsInAbsoluteForm) {
  Start();
  for (const char* target : {"http://guideway/v1/history", "HTTPS://[::1]:9/v1/history",
                             "http://x/v1/flows?service=web"}) {
    EXPECT_THAT(Answer(Get(target)), StartsWith("HTTP/1.1 200 OK\r\n")) << target;
  }
  for (const char* target :
       {"http://guideway", "http://guideway?a=b", "ftp://guideway/v1/status"}) {
    EXPECT_THAT(Answer(Get(target)), StartsWith("HTTP/1.1 404 ")) << target;
  }
}

// All of 127.0.0.0/8 is this host's: an address of the test's own needs no port that is free.
Endpoint OwnEndpoint() {
  const uint32_t pid = static_cast<uint32_t>(getpid());
  const std::string text =
      absl::StrCat("127.", 1 + (pid >> 16) % 200, ".", (pid >> 8) % 256, ".", pid % 256, ":9909");
  return ParseEndpoint(text).value();
}

class ReadOnlyServerTest : public ApiServerTest {
 protected:
  void Start() {
    ApiServerTest::Start();
    daemon_->Do([&] {
      absl::StatusOr<BoundEndpoint> bound = BoundEndpoint::Bind(endpoint_);
      ASSERT_TRUE(bound.ok()) << bound.status();
      ASSERT_EQ(daemon_->server().ListenReadOnly(*std::move(bound)), absl::OkStatus());
    });
  }
  std::string Answer(const std::string& request) {
    return Client(endpoint_).Say(request).ReadAnswer();
  }

  const Endpoint endpoint_ = OwnEndpoint();
};

TEST_F(ReadOnlyServerTest, AnswersWhatChangesNothing) {
  Start();
  daemon_->Do([&] { daemon_->dataplane().by_service[0].packets = 5; });
  std::string answer = Answer(Get("/metrics"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("\nguideway_service_packets_total{service=\"web\"} 5\n"));
  answer = Answer(Get("/status"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(answer, HasSubstr("\"state\":\"serving\""));
  answer = Answer(Get("/healthz"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nok\n"));
  daemon_->Do([&] { daemon_->controller().SetStopping(); });
  answer = Answer(Get("/healthz"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nstopping\n"));
}

// Each route is in docs/api.md as a row and, if it is the socket's, as a line of curl, and nothing
// else is.
TEST_F(ReadOnlyServerTest, EveryRouteIsDocumented) {
  Start();
  std::ifstream file(SOURCE_ROOT "/docs/api.md");
  std::stringstream read;
  read << file.rdbuf();
  const std::string text = read.str();
  std::set<std::string> routes, rows;
  for (const bool on_tcp : {false, true}) {
    const std::string all = on_tcp ? Answer(Get("/")) : ApiServerTest::Answer(Get("/"));
    const std::string begin = "there are ";
    std::vector<std::string> paths =
        absl::StrSplit(all.substr(all.find(begin) + begin.size()), ", ");
    paths.back().erase(paths.back().find('"'));
    for (const std::string& path : paths) {
      // The method that is not allowed names the one that is.
      const std::string wrong = absl::StrCat("PUT ", path, " HTTP/1.1\r\n\r\n");
      const std::string refused = on_tcp ? Answer(wrong) : ApiServerTest::Answer(wrong);
      const bool is_get = absl::StrContains(refused, "Allow: GET");
      routes.insert(absl::StrCat(is_get ? "GET " : "POST ", path));
      EXPECT_TRUE(absl::StrContains(text, absl::StrCat("http://guideway", path)) || on_tcp) << path;
    }
  }
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, "| `")) continue;
    if (absl::StartsWith(line, "GET ") || absl::StartsWith(line, "POST ")) {
      rows.insert(std::string(line.substr(0, line.find('`'))));
    }
  }
  EXPECT_EQ(rows, routes);
}

TEST_F(ReadOnlyServerTest, RefusesAllElse) {
  Start();
  const std::string drain = R"({"service": "web", "backend": "a"})";
  EXPECT_THAT(Answer(Post("/v1/drain", "")), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Answer(Get("/v1/status")), HasSubstr("/metrics, /status, /healthz"));
  EXPECT_THAT(Answer(Post("/v1/drain", drain)), StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(Answer(Post("/metrics", "")), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(Answer("GET /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"),
              StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(
      Answer("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
      StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(Answer("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(ApiServerTest::Answer(Get("/v1/backends")), HasSubstr("\"drained_by_hand\":false"));
}

TEST_F(ReadOnlyServerTest, OfTooManyConnectionsTheLongestIdleIsClosed) {
  Start();
  std::vector<Client> idle;
  for (int i = 0; i < 50; ++i) idle.emplace_back(endpoint_);
  EXPECT_THAT(Answer(Get("/healthz")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(idle[0].ReadAll(), HasSubstr("others need this connection"));
  EXPECT_THAT(idle.back().Say(Get("/healthz")).ReadAnswer(), StartsWith("HTTP/1.1 200 "))
      << "and not for having waited too long";
}

TEST_F(ReadOnlyServerTest, ScrapesAtTheSameTimeAreAllAnswered) {
  Start();
  std::vector<Client> clients;
  for (int i = 0; i < 10; ++i) clients.emplace_back(endpoint_);
  for (Client& client : clients) client.Say(Get("/metrics"));
  for (Client& client : clients) {
    EXPECT_THAT(client.ReadAnswer(), HasSubstr("guideway_probe_lateness_seconds_count 0\n"));
  }
  EXPECT_THAT(ApiServerTest::Answer(Get("/metrics")), HasSubstr("guideway_build_info{version="))
      << "on the socket too";
}

TEST_F(ReadOnlyServerTest, GoesAwayInTheMiddleOfAScrape) {
  Start();
  Client client(endpoint_);
  client.Say(Get("/metrics"));
  daemon_.reset();
  client.ReadAll();
}

TEST_F(ReadOnlyServerTest, AnAddressThatCannotBeBoundSaysWhy) {
  Start();
  for (const char* text : {"203.0.113.1:9909", "[2001:db8::1]:9909"}) {
    const absl::Status status = BoundEndpoint::Bind(ParseEndpoint(text).value()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(std::string(status.message()), "Cannot assign requested address");
  }
  EXPECT_EQ(std::string(BoundEndpoint::Bind(endpoint_).status().message()),
            "Address already in use");
}

TEST_F(ReadOnlyServerTest, NobodyConnectsBeforeItListens) {
  ApiServerTest::Start();
  absl::StatusOr<BoundEndpoint> bound = BoundEndpoint::Bind(endpoint_);
  ASSERT_TRUE(bound.ok()) << bound.status();
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(endpoint_.port)};
  std::memcpy(&address.sin_addr, endpoint_.address.bytes(), sizeof(address.sin_addr));
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  close(fd);
}

class SocketLockTest : public testing::Test {
 protected:
  SocketLockTest() {
    std::string name = testing::TempDir() + "socket_lock_test.XXXXXX";
    directory_ = mkdtemp(name.data());
    path_ = directory_ + "/made/when/missing/guideway.sock";
  }
  ~SocketLockTest() override { std::filesystem::remove_all(directory_); }

  std::string directory_, path_;
};

TEST_F(SocketLockTest, OneAtATime) {
  {
    const auto lock = SocketLock::Take(path_);
    ASSERT_TRUE(lock.ok()) << lock.status();
    const auto second = SocketLock::Take(path_);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(path_));
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat("pid ", getpid())));
    EXPECT_TRUE(SocketLock::Take(directory_ + "/other.sock").ok());
  }
  EXPECT_TRUE(SocketLock::Take(path_).ok());
}

TEST_F(SocketLockTest, ACrashGivesItBack) {
  const pid_t child = fork();
  if (child == 0) {
    auto lock = SocketLock::Take(path_);
    _exit(lock.ok() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(std::filesystem::exists(path_ + ".lock"));
  EXPECT_TRUE(SocketLock::Take(path_).ok());
}

TEST_F(SocketLockTest, WhatCannotBeIsOneSentence) {
  const auto too_long = SocketLock::Take("/" + std::string(200, 'x'));
  EXPECT_THAT(std::string(too_long.status().message()), HasSubstr("107"));
  std::ofstream(directory_ + "/file") << "x";
  const auto no_directory = SocketLock::Take(directory_ + "/file/guideway.sock");
  EXPECT_FALSE(no_directory.ok());
  EXPECT_THAT(std::string(no_directory.status().message()), Not(HasSubstr("\n")));
}

TEST_F(SocketLockTest, ASocketLeftByACrashIsReplacedAndNothingElseIs) {
  boost::asio::io_context io;
  ASSERT_TRUE(SocketLock::Take(path_).ok());  // makes the directory
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  std::memcpy(address.sun_path, path_.data(), path_.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  close(fd);
  EXPECT_TRUE(ApiServer::Listen(io, nullptr, path_).ok());

  std::ofstream(path_) << "somebody's file";
  const auto refused = ApiServer::Listen(io, nullptr, path_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(std::filesystem::exists(path_));
  EXPECT_THAT(std::string(SocketLock::Take(path_).status().message()),
              HasSubstr("is not a socket"));
}

TEST_F(ApiServerTest, TakesTheParametersOfARoute) {
  Start();
  daemon_->Do([&] { daemon_->dataplane().flows[0][3] = {.backend = 0, .age_ms = 5}; });
  EXPECT_THAT(Answer(Get("/v1/flows?service=web&backend=web%2Fa")),
              HasSubstr("\"state\":\"handshake\",\"flows\":\"1\""));
  EXPECT_THAT(Answer(Get("/v1/flows?")), HasSubstr("\"flows\":\"1\""));
  const struct {
    const char* path;
    const char* status;
    const char* says;
  } rows[] = {
      {"/v1/flows?bogus=1", "400", "there are service, backend"},
      {"/v1/status?service=web", "400", "there are none"},
      {"/v1/flows?service=web&service=web", "400", "is there twice"},
      {"/v1/flows?service=%zz", "400", "percent-encoded"},
      {"/v1/flows?service=%", "400", "percent-encoded"},
      {"/v1/flows?service=%0a", "400", "percent-encoded"},
      {"/v1/flows?service=%c3%a4", "400", "percent-encoded"},
      {"/v1/flows?service=x", "404", "there is no service \\\"x\\\""},
      {"/v1/flows/entries?backend=web", "400", "is not SERVICE/BACKEND"},
      {"/v1/explain", "400", "the query has no packet"},
      {"/v1/flows/lookup?packet=icmp+1+%3E+2", "400", "is of no connection"},
      {"/v1/nothing?service=x", "404", "there is no such path"},
  };
  for (const auto& row : rows) {
    const std::string answer = Answer(Get(row.path));
    EXPECT_THAT(answer, StartsWith(absl::StrCat("HTTP/1.1 ", row.status))) << row.path;
    EXPECT_THAT(answer, HasSubstr(row.says)) << row.path;
  }
  EXPECT_THAT(Answer(Get("/v1/explain?packet=tcp+203.0.113.7:1+%3e+198.51.100.1:80")),
              HasSubstr("\"packet\":\"tcp 203.0.113.7:1 \\u003e 198.51.100.1:80\""));
  for (const char* share : {"2", "-0.1", "nan", "inf", "x", ""}) {
    EXPECT_THAT(Answer(Post(absl::StrCat("/v1/apply?max_moved=", share), "")),
                HasSubstr("max_moved is not a share from 0 to 1"))
        << share;
  }
  ExpectItServes();
}

// What a client takes of a long answer in pieces.
TEST_F(ApiServerTest, StreamsEntriesAsTheClientTakesThem) {
  constexpr uint64_t kPlaces = 40 * 4096, kLast = (4 << 20) - 1;
  Start();
  auto pieces = std::make_shared<std::atomic<uint64_t>>();
  daemon_->Do([&] {
    daemon_->dataplane().worker_status[0].flow_capacity = kLast + 1;
    auto& flows = daemon_->dataplane().flows[0];
    for (uint64_t place = 0; place < kPlaces; ++place) flows[place] = {.backend = place % 2 != 0};
    flows[kLast] = {.backend = 0};  // behind millions of places that are free
    daemon_->dataplane().reads = pieces;
  });
  {
    Client slow(daemon_->socket());
    slow.Say(Get("/v1/flows/entries")).ReadUntil("\r\n\r\n");
    for (int n = 0; n < 100; ++n) ExpectItServes();
    EXPECT_LT(pieces->load(), 30u) << "nobody has taken so much";
  }
  Client client(daemon_->socket());
  const std::string answer = client.Say(Get("/v1/flows/entries")).ReadUntil("\r\n0\r\n\r\n");
  EXPECT_THAT(answer.substr(0, 200), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer.substr(0, 200), HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_EQ(std::count(answer.begin(), answer.end(), '{'), static_cast<ptrdiff_t>(kPlaces + 1));
  EXPECT_EQ(answer.find("\r\n0\r\n\r\n"), answer.size() - 7) << "one end";
  EXPECT_THAT(client.Say(Get("/v1/status")).ReadAnswer(), StartsWith("HTTP/1.1 200 OK\r\n"))
      << "the connection can go on";
}

TEST_F(ApiServerTest, StopsInTheMiddleOfAStream) {
  Start();
  daemon_->Do([&] {
    daemon_->dataplane().worker_status[0].flow_capacity = 40 * 4096;
    auto& flows = daemon_->dataplane().flows[0];
    for (uint64_t place = 0; place < 40 * 4096; ++place) flows[place] = {.backend = 0};
  });
  std::vector<Client> clients;
  for (int n = 0; n < 5; ++n) clients.emplace_back(daemon_->socket()).Say(Get("/v1/flows/entries"));
  clients[0].ReadUntil("\r\n\r\n");
  daemon_.reset();
}

}  // namespace
}  // namespace guideway
