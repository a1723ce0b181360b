-- Publishes one task's documents, in one step: readers see all of the old or all of the new. Whatever fails, all of the old stays.
--
-- KEYS  1 document  2 sibling (GeoJSON, or the statistics' last_good)  3 meta  4 log
--       5-8 the same four under staging names; of these, document and sibling are there  9-12 names that 1-4 take while they are replaced
--       Redis checks the permission to read and write every key named here before it starts the script.
-- ARGV  1 generation (µs since 1970, below 2^53)  2 owner  3 records
--       4 TTL of the document  5 of the sibling  6 of meta and log (seconds)  7 entries that the log keeps
--       8 channel  9 name of the task  10 where a document says when it was published (bytes from its beginning)
--       11 length of the staged document  12 of the staged sibling (bytes)
--       13 largest drop of the number of records that is published at once, in percent  14 in records
--       15 what the run itself doubts, a code; or empty  16 name of the run  17 bytes of a document that hold its head
-- Returns { outcome, published at (µs), generation that is published now, owner before, log newest first, whether heads could be read }

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

-- Runs a command. Its error ends the script and names the command: the words of some versions do not.
local function run(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err then
    error({ command = command, text = answer.err })
  end
  return answer
end

-- The error as `CODE COMMAND: text`, whatever the version writes before it.
local function refusal(failure)
  if type(failure) ~= 'table' or not failure.text then
    return redis.error_reply('ERR ' .. tostring(failure))
  end
  local text = string.gsub(failure.text, '^%-', '')
  text = string.gsub(text, '^@user_script: ?%d*:? ?', '')
  text = string.gsub(text, '^%-', '')
  local code, rest = string.match(text, '^(%u[%u%d]+) (.*)$')
  return redis.error_reply((code or 'ERR') .. ' ' .. failure.command .. ': ' .. (rest or text))
end

-- Whether the heads of the documents could be read. A user made for an earlier version lacks GETRANGE.
local can_read_heads = true

-- Owner, generation and records from the head of the document `key`. Nil where the document is not one of ours.
local function head(key, kind)
  if kind ~= 'string' or not can_read_heads then
    return nil
  end
  local text = redis.pcall('GETRANGE', key, 0, ARGV[17] - 1)
  if type(text) ~= 'string' then
    can_read_heads = false
    return nil
  end
  -- No list and no object begins within a head. What a row says can't be taken for one.
  text = string.match(text, '^{"publishedAt":"[^%[{]*')
  local generation = text and string.match(text, '"generation":(%d+),"dataAsOf":"')
  if not generation or #generation > 16 then
    return nil
  end
  return {
    generation = tonumber(generation),
    owner = string.match(text, '"owner":"([^"\\]+)"'),
    records = tonumber(string.match(text, '"total[_a-z]*":(%d+)') or ''),
  }
end

-- Renames each pair's first key to its second. Where one can't be renamed, those before it get their names back.
local function rename_all(pairs_of_keys)
  for index, names in ipairs(pairs_of_keys) do
    local answer = redis.pcall('RENAME', names[1], names[2])
    if type(answer) == 'table' and answer.err then
      for undone = index - 1, 1, -1 do
        redis.pcall('RENAME', pairs_of_keys[undone][2], pairs_of_keys[undone][1])
      end
      error({ command = 'RENAME', text = answer.err })
    end
  end
end

local function publish()
  local clock = run('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local generation = tonumber(ARGV[1])
  local owner = ARGV[2]
  local function outcome(name, stamp, other, log)
    return { name, integer(now), integer(stamp), other, log, can_read_heads and 1 or 0 }
  end

  local kinds = {}
  for index, wanted in ipairs({ false, false, 'hash', 'list' }) do
    local found = run('TYPE', KEYS[index]).ok
    if wanted and found ~= 'none' and found ~= wanted then
      return redis.error_reply('WRONGTYPE key ' .. KEYS[index] .. ' holds a ' .. found .. ', not a ' .. wanted)
    end
    kinds[index] = found
  end

  -- A cache that evicts takes meta first, because only runs read it. So the documents name owner and generation, too, and the
  -- newest of the three is believed. A meta without its generation was released by hand: whatever is there may be replaced.
  local meta = run('HMGET', KEYS[3], 'generation', 'owner', 'records', 'pendingReason', 'pendingRun', 'pendingGeneration')
  local is_released = meta[2] and not meta[1]
  local document = not is_released and head(KEYS[1], kinds[1])
  local sibling = not is_released and head(KEYS[2], kinds[2])
  local newest = { generation = tonumber(meta[1] or '') or 0, owner = meta[2] or '', records = tonumber(meta[3] or '') }
  if not can_read_heads and newest.owner == '' then
    return redis.error_reply('NOPERM GETRANGE: whose document is there can not be read')
  end
  for _, found in ipairs({ document or false, sibling or false }) do
    if found and found.generation > newest.generation then
      newest = { generation = found.generation, owner = found.owner or newest.owner, records = found.records or newest.records }
    end
  end
  local published, previous = newest.generation, newest.owner
  local foreign = previous ~= '' and previous ~= owner

  -- The publications of another owner, or of an unknown one, prove nothing about this one.
  local log = run('LRANGE', KEYS[4], 0, ARGV[7] - 2)
  if previous ~= owner then
    log = {}
  end

  -- The first write of the script needs no memory, and the commands that do come after it: with its memory full, Redis refuses only
  -- a first write that needs memory.
  run('UNLINK', KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12])

  if foreign and now - published < 3600000000 then
    run('UNLINK', KEYS[5], KEYS[6])
    return outcome('conflict', published, previous, {})
  end
  if not foreign and generation < published then
    -- The document itself has to be the newer one: meta may remember one that was replaced by something else since.
    local is_there = kinds[1] ~= 'none'
    if can_read_heads then
      is_there = document and document.generation >= generation
      published = document and document.generation or published
    end
    run('UNLINK', KEYS[5], KEYS[6])
    return outcome(is_there and 'fenced' or 'missing', published, previous, log)
  end

  -- A result that can hardly be true is published only when the next run finds it, too. A retry of the same run is no second look.
  local doubt = ARGV[15]
  local before = newest.records or 0
  local drop = before - tonumber(ARGV[3])
  if doubt == '' and not foreign and drop > tonumber(ARGV[14]) and drop * 100 > before * tonumber(ARGV[13]) then
    doubt = 'ImplausibleResult'
  end
  if doubt ~= '' then
    local seen = not foreign and meta[4] == doubt and generation >= (tonumber(meta[6] or '') or 0)
    if not seen or meta[5] == ARGV[16] then
      if not foreign then
        -- Tried on a staged key first: a meta that EXPIRE is refused for would live for ever.
        run('EXPIRE', KEYS[5], ARGV[6])
        run('HSET', KEYS[3], 'pendingReason', doubt, 'pendingRun', ARGV[16], 'pendingGeneration', ARGV[1])
        run('EXPIRE', KEYS[3], ARGV[6])
      end
      run('UNLINK', KEYS[5], KEYS[6])
      return outcome('doubted', published, doubt .. ' ' .. integer(before), {})
    end
  end

  -- A cache that evicts may have taken a piece of them.
  if run('STRLEN', KEYS[5]) ~= tonumber(ARGV[11]) or run('STRLEN', KEYS[6]) ~= tonumber(ARGV[12]) then
    run('UNLINK', KEYS[5], KEYS[6])
    return outcome('evicted', published, previous, {})
  end

  -- Everything new is made under its staging name, by every command that publishing needs but RENAME: nothing published is touched
  -- before all of them are known to be permitted.
  local published_at = rfc3339(now)
  for index, lifetime in ipairs({ ARGV[4], ARGV[5] }) do
    run('SETRANGE', KEYS[4 + index], ARGV[10], published_at)
    run('EXPIRE', KEYS[4 + index], lifetime)
  end
  run('HSET', KEYS[7], 'generation', ARGV[1], 'dataAsOf', rfc3339(generation), 'publishedAt', published_at, 'owner', owner,
    'records', ARGV[3], 'task', ARGV[9])
  run('EXPIRE', KEYS[7], ARGV[6])
  table.insert(log, 1, math.floor(now / 1000000) .. ' ' .. math.floor(generation / 1000000) .. ' ' .. ARGV[1])
  local oldest_first = {}
  for index = #log, 1, -1 do
    table.insert(oldest_first, log[index])
  end
  run('LPUSH', KEYS[8], unpack(oldest_first))
  run('EXPIRE', KEYS[8], ARGV[6])

  -- RENAME needs no memory. The old keys step aside first: a RENAME onto them would free the old document while every reader waits.
  local names = {}
  for index = 1, 4 do
    if kinds[index] ~= 'none' then
      table.insert(names, { KEYS[index], KEYS[8 + index] })
    end
    table.insert(names, { KEYS[4 + index], KEYS[index] })
  end
  rename_all(names)
  redis.pcall('UNLINK', KEYS[9], KEYS[10], KEYS[11], KEYS[12])

  -- An ACL may forbid the channel, and there may be no listener: the documents are published all the same.
  redis.pcall('PUBLISH', ARGV[8], '{"task":"' .. ARGV[9] .. '","generation":' .. ARGV[1] .. ',"dataAsOf":"' .. rfc3339(generation)
    .. '","publishedAt":"' .. published_at .. '","records":' .. ARGV[3] .. '}')
  return outcome('published', generation, foreign and previous or '', log)
end

local is_whole, answer = pcall(publish)
if is_whole then
  return answer
end
redis.pcall('UNLINK', KEYS[5], KEYS[6], KEYS[7], KEYS[8])
return refusal(answer)
