-- One script for all loads. Arguments: what, a number that makes ids unique, and a file for "commit".
-- Prints a line of JSON that benchmarks/http.py reads.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local PAYLOAD = '{"to":"someone@example.com","subject":"hello","n":12345,"tags":["a","b"],"ok":true}'

function init(args)
  what, run = args[1], args[2]
  count, failed = 0, 0
  topic = "/v1/topics/bench-" .. run
  headers = { ["Content-Type"] = "application/json" }
  if what == "commit" then
    lines = {}
    for line in io.lines(args[3]) do lines[#lines + 1] = line end
  elseif what == "insert-batch" then
    size = tonumber(args[3])
  elseif what == "claim-batch" then
    size = tonumber(args[3])
  end
end

function request()
  count = count + 1
  if what == "bare" then
    return wrk.format("POST", "/v1/topics/t/tasks/" .. count, headers, PAYLOAD)
  elseif what == "insert" then
    local id = run .. "-" .. number .. "-" .. count
    return wrk.format("POST", topic .. "/tasks/" .. id, headers, '{"payload":' .. PAYLOAD .. '}')
  elseif what == "claim" then
    return wrk.format("POST", topic .. "/promises", headers, '{"consumer":"c","timeout":"10m"}')
  elseif what == "claim-batch" then
    return wrk.format("POST", topic .. "/promises?limit=" .. size, headers, '{"consumer":"c","timeout":"10m"}')
  elseif what == "commit" then
    local line = lines[count]
    if line == nil then wrk.thread:stop() return wrk.format("GET", "/livez") end
    local id, nonce = line:match("(%S+) (%S+)")
    return wrk.format("PATCH", topic .. "/tasks/" .. id, headers, '{"nonce":"' .. nonce .. '"}')
  elseif what == "insert-batch" then
    local parts = {}
    for n = 1, size do
      parts[n] = '{"_id":"' .. run .. "-" .. number .. "-" .. count .. "-" .. n .. '","payload":' .. PAYLOAD .. '}'
    end
    return wrk.format("POST", topic .. "/tasks", headers, '{"data":[' .. table.concat(parts, ",") .. ']}')
  end
end

function done(summary, latency, requests)
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.1f, "p99": %.1f, "p999": %.1f, "non2xx": %d, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
