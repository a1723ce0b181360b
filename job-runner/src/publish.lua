-- Publishes one task's documents, in one step: readers see all of the old or all of the new.
--
-- KEYS  1 document  2 sibling (GeoJSON, or the statistics' last_good)  3 meta  4 log  5 staged document  6 staged sibling
-- ARGV  1 generation (µs since 1970, below 2^53)  2 owner  3 records
--       4 TTL of the document  5 of the sibling  6 of meta and log (seconds)  7 entries that the log keeps
--       8 channel  9 name of the task  10 where a document says when it was published (bytes from its beginning)
--       11 length of the staged document  12 of the staged sibling (bytes)
--       13 largest drop of the number of records that is published at once, in percent  14 in records
--       15 what the run itself doubts, a code; or empty  16 name of the run
-- Returns { outcome, published at (µs), generation that is published now, owner before, log newest first }

local function integer(number)
  return string.format('%.0f', number)
end

-- RFC 3339 of microseconds since 1970. Lua in Redis has no os.date; days to civil date as in
-- https://howardhinnant.github.io/date_algorithms.html#civil_from_days
local function rfc3339(micros)
  local seconds = math.floor(micros / 1000000)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local era_day = days + 719468
  local era = math.floor(era_day / 146097)
  local day_of_era = era_day - era * 146097
  local year_of_era = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
    - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local shifted = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * shifted + 2) / 5) + 1
  local month = shifted < 10 and shifted + 3 or shifted - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day, math.floor(rest / 3600),
    math.floor(rest / 60) % 60, rest % 60, micros - seconds * 1000000)
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local generation = tonumber(ARGV[1])
local owner = ARGV[2]

-- Wrong types are found before anything is written: a script is not undone.
for index, wanted in ipairs({ false, false, 'hash', 'list' }) do
  local found = redis.call('TYPE', KEYS[index]).ok
  if wanted and found ~= 'none' and found ~= wanted then
    return redis.error_reply('WRONGTYPE key ' .. KEYS[index] .. ' holds a ' .. found .. ', not a ' .. wanted)
  end
end

local meta = redis.call('HMGET', KEYS[3], 'generation', 'owner')
local published = tonumber(meta[1] or '') or 0
local previous = meta[2] or ''
local foreign = previous ~= '' and previous ~= owner

if foreign and now - published < 3600000000 then
  redis.call('UNLINK', KEYS[5], KEYS[6])
  return { 'conflict', integer(now), integer(published), previous, {} }
end
if not foreign and generation < published then
  local outcome = redis.call('EXISTS', KEYS[1]) == 1 and 'fenced' or 'missing'
  redis.call('UNLINK', KEYS[5], KEYS[6])
  return { outcome, integer(now), integer(published), previous, redis.call('LRANGE', KEYS[4], 0, -1) }
end

-- A result that can hardly be true is published only when the next run finds it, too. A retry of the same run is no second look.
local doubt = ARGV[15]
local before = tonumber(redis.call('HGET', KEYS[3], 'records') or '') or 0
local drop = before - tonumber(ARGV[3])
if doubt == '' and not foreign and drop > tonumber(ARGV[14]) and drop * 100 > before * tonumber(ARGV[13]) then
  doubt = 'ImplausibleResult'
end
if doubt ~= '' then
  local pending = redis.call('HMGET', KEYS[3], 'pendingReason', 'pendingRun', 'pendingGeneration')
  local seen = not foreign and pending[1] == doubt and generation >= (tonumber(pending[3] or '') or 0)
  if not seen or pending[2] == ARGV[16] then
    if not foreign then
      redis.call('HSET', KEYS[3], 'pendingReason', doubt, 'pendingRun', ARGV[16], 'pendingGeneration', ARGV[1])
      redis.call('EXPIRE', KEYS[3], ARGV[6])
    end
    redis.call('UNLINK', KEYS[5], KEYS[6])
    return { 'doubted', integer(now), integer(published), doubt .. ' ' .. integer(before), {} }
  end
end

-- A cache that evicts may have taken a piece of them.
if redis.call('STRLEN', KEYS[5]) ~= tonumber(ARGV[11]) or redis.call('STRLEN', KEYS[6]) ~= tonumber(ARGV[12]) then
  return { 'evicted', integer(now), integer(published), previous, {} }
end

local published_at = rfc3339(now)

-- UNLINK and RENAME come first: with its memory full, Redis refuses a script's first write if it is one that needs memory, and
-- none after it. UNLINK, because RENAME would free the old document while every reader waits. The date is written in place.
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('RENAME', KEYS[5], KEYS[1])
redis.call('RENAME', KEYS[6], KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('SETRANGE', KEYS[1], ARGV[10], published_at)
redis.call('SETRANGE', KEYS[2], ARGV[10], published_at)
if foreign then
  -- The publications of another owner prove nothing about this one.
  redis.call('DEL', KEYS[3], KEYS[4])
end
redis.call('HDEL', KEYS[3], 'pendingReason', 'pendingRun', 'pendingGeneration')
redis.call('HSET', KEYS[3], 'generation', ARGV[1], 'dataAsOf', rfc3339(generation), 'publishedAt', published_at,
  'owner', owner, 'records', ARGV[3], 'task', ARGV[9])
redis.call('EXPIRE', KEYS[3], ARGV[6])
redis.call('LPUSH', KEYS[4], math.floor(now / 1000000) .. ' ' .. math.floor(generation / 1000000) .. ' ' .. ARGV[1])
redis.call('LTRIM', KEYS[4], 0, ARGV[7] - 1)
redis.call('EXPIRE', KEYS[4], ARGV[6])
-- Nobody may be listening, and an ACL may forbid the channel: the documents are published all the same.
redis.pcall('PUBLISH', ARGV[8], '{"task":"' .. ARGV[9] .. '","generation":' .. ARGV[1] .. ',"dataAsOf":"' .. rfc3339(generation)
  .. '","publishedAt":"' .. published_at .. '","records":' .. ARGV[3] .. '}')

return { 'published', integer(now), ARGV[1], foreign and previous or '', redis.call('LRANGE', KEYS[4], 0, -1) }
