require "stub"
local outcome = require "resty.weir.outcome"

describe("how an attempt ended", function()
    it("is read from NGINX's lists element by element, dashes and redirects included (apisix#2954, ingress-nginx#6632)", function()
        assert.same({ "0.300", "0.005" }, outcome.split("0.300, 0.005"))
        assert.same({ "504", "200" }, outcome.split("504, 200"))
        assert.same({ "-", "0.001", "0.002" }, outcome.split("-, 0.001 : 0.002"))
        assert.same({ "127.0.0.1:9", "" }, outcome.split("127.0.0.1:9 : "))
        assert.same({ "[::1]:9001", "unix:/run/a.sock" }, outcome.split("[::1]:9001, unix:/run/a.sock"))
        assert.same({}, outcome.split(nil))
    end)

    it("is matched to the attempt by address, past upstreams that are not Weir's", function()
        local lists = { addr = { "10.0.0.9:80", "10.0.0.1:80", "10.0.0.2:80" } }
        assert.equal(2, outcome.element(lists, "10.0.0.1:80", 1))
        assert.equal(3, outcome.element(lists, "10.0.0.2:80", 3))
        assert.is_nil(outcome.element(lists, "10.0.0.1:80", 3))
    end)

    local cases = {
        { "a plain answer", 200, "0.001", "0.002", false, "ok" },
        { "a 404", 404, "0.001", "0.002", false, "ok" },
        { "a 500 of the application", 500, "0.001", "0.002", false, "failure status" },
        { "a 429 of the application", 429, "0.001", "0.002", false, "failure status" },
        { "a 502 that the peer sent itself", 502, "0.001", "0.002", false, "failure status" },
        { "a 103 that NGINX took for the answer", 103, "0.001", "0.002", true, "connection reset or invalid answer" },
        { "an upgrade", 101, "0.001", "0.002", false, "ok" },
        { "bytes that are no HTTP", 9, "0.001", "0.002", false, "connection reset or invalid answer" },
        { "a refused connection", 502, "-", "-", false, "refused or unreachable" },
        { "a connect time-out", 504, "-", "-", false, "connect time-out" },
        { "a read time-out", 504, "0.001", "-", false, "time-out" },
        { "a reset", 502, "0.001", "-", false, "connection reset or invalid answer" },
        { "an impatient client", 499, "0.001", "-", true, "client abort" },
        { "an impatient client before any status", nil, "0.001", "-", true, "client abort" },
        { "an impatient client while connecting", nil, "-", "-", true, "client abort" },
    }
    for _, c in ipairs(cases) do
        it("is right for " .. c[1], function()
            assert.equal(c[6], outcome.NAME[outcome.judge(c[2], c[3], c[4], c[5])])
        end)
    end

    it("is a broken answer when less came than was announced, but where nothing was asked for", function()
        assert.is_true(outcome.cut_short(200, "GET", "5", "10", "5", 200, "10"))
        assert.is_true(outcome.cut_short(200, "GET", "0", "10", "0", 200, "10"))
        assert.is_true(outcome.cut_short(200, "GET", "0", "10", "0", 200)) -- a filter dropped the length
        assert.is_true(outcome.cut_short(200, "GET", "5", "10", "7", 200, "12"))
        assert.is_false(outcome.cut_short(200, "GET", "10", "10", "10", 200, "10"))
        assert.is_false(outcome.cut_short(200, "HEAD", "0", "10", "0", 200, "10"))
        assert.is_false(outcome.cut_short(304, "GET", "0", "10", "0", 304))
        assert.is_false(outcome.cut_short(200, "GET", "0", "10", "700", 200)) -- post_action
        assert.is_false(outcome.cut_short(404, "GET", "0", "10", "0", 204)) -- an error page in its place
        assert.is_false(outcome.cut_short(404, "GET", "0", "10", "0", 404, "0"))
    end)

    it("may be an idle race only where no byte came back, and always where gRPC's frames may have come", function()
        ngx.var = { upstream_bytes_received = "0, 4096" }
        assert.is_true(outcome.unanswered(1))
        assert.is_true(outcome.unanswered(nil))
        assert.is_true(outcome.unanswered(3))
        assert.is_false(outcome.unanswered(2))
        ngx.var = { upstream_bytes_received = "46", http_content_type = "application/grpc" }
        assert.is_true(outcome.unanswered(1)) -- SETTINGS and GOAWAY
    end)

    it("knows when another upstream took the request over", function()
        local info = { addr = "10.0.0.1:80" }
        assert.is_false(outcome.passed_on("10.0.0.1:80", info))
        assert.is_false(outcome.passed_on("10.0.0.2:80, 10.0.0.1:80", info))
        assert.is_false(outcome.passed_on("10.9.9.9:80 : 10.0.0.1:80", info))
        assert.is_true(outcome.passed_on("10.0.0.1:80 : 10.9.9.9:80", info))
        assert.is_true(outcome.passed_on("10.0.0.2:80, 10.0.0.1:80 : other", info)) -- a pool that had no peer
        assert.is_false(outcome.passed_on(nil, info))
        assert.is_false(outcome.passed_on("10.0.0.1:80 : 10.9.9.9:80", nil))
    end)

    it("tells streams from answers", function()
        assert.is_true(outcome.is_stream(101, nil, 5))
        assert.is_true(outcome.is_stream("101"))
        assert.is_true(outcome.is_stream(200, "text/event-stream; charset=utf-8", 0))
        assert.is_false(outcome.is_stream(200, "text/html", 5000))
        assert.is_false(outcome.is_stream(200, nil, 5000))
    end)

    it("takes a gRPC call for a stream when it goes on after its header, or has not ended", function()
        assert.is_false(outcome.is_stream(200, "application/grpc+proto", 3))
        assert.is_true(outcome.is_stream(200, "application/grpc+proto", 300))
        assert.is_true(outcome.is_stream(200, "application/grpc"))
    end)
end)
