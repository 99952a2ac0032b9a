-- One script for all loads. Arguments: what, the topic, the size of a batch, and a file for commits whose lines
-- are an id and a nonce. Prints a line of JSON that benchmarks/wrk/__init__.py reads.

local PAYLOAD = '{"to":"someone@example.com","subject":"hello","n":12345,"tags":["a","b"],"ok":true}'
local CLAIM = '{"consumer":"c","timeout":"1h"}'
local HEADERS = { ["Content-Type"] = "application/json" }

local make, size, topic, path
local count = 0
local claimed = {}

-- What is claimed has been committed: stop at once, a request that does something else would count.
local function stop()
  wrk.thread:stop()
  return wrk.format("GET", "/livez")
end

local makers = {
  bare = function()
    return wrk.format("POST", path .. "/tasks/" .. count, HEADERS, PAYLOAD)
  end,
  insert = function()
    return wrk.format("POST", path .. "/tasks/" .. topic .. "-" .. count, HEADERS, '{"payload":' .. PAYLOAD .. '}')
  end,
  claim = function()
    return wrk.format("POST", path .. "/promises", HEADERS, CLAIM)
  end,
  commit = function()
    local line = claimed[count]
    if line == nil then return stop() end
    local id, nonce = line:match("(%S+) (%S+)")
    return wrk.format("PATCH", path .. "/tasks/" .. id, HEADERS, '{"nonce":"' .. nonce .. '"}')
  end,
  ["insert batch"] = function()
    local parts = {}
    for n = 1, size do
      parts[n] = '{"_id":"' .. topic .. "-" .. count .. "-" .. n .. '","payload":' .. PAYLOAD .. '}'
    end
    return wrk.format("POST", path .. "/tasks", HEADERS, '{"data":[' .. table.concat(parts, ",") .. ']}')
  end,
  ["claim batch"] = function()
    return wrk.format("POST", path .. "/promises?limit=" .. size, HEADERS, CLAIM)
  end,
  ["commit batch"] = function()
    local first, parts = (count - 1) * size, {}
    if claimed[first + size] == nil then return stop() end
    for n = 1, size do
      local id, nonce = claimed[first + n]:match("(%S+) (%S+)")
      parts[n] = '{"_id":"' .. id .. '","nonce":"' .. nonce .. '"}'
    end
    return wrk.format("PATCH", path .. "/tasks", HEADERS, '{"data":[' .. table.concat(parts, ",") .. ']}')
  end,
  wait = function()
    return wrk.format("POST", path .. "/promises?wait=20s", HEADERS, CLAIM)
  end,
}

function init(args)
  make, topic, size = makers[args[1]], args[2], tonumber(args[3])
  path = "/v1/topics/" .. topic
  if args[4] then
    for line in io.lines(args[4]) do claimed[#claimed + 1] = line end
  end
end

function request()
  count = count + 1
  return make()
end

function done(summary, latency, requests)
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.1f, "p99": %.1f, "p999": %.1f, "refused": %d, "lost": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
