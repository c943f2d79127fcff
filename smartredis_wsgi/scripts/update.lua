-- Commit changes to a record that is there; give it a new key where asked.
-- KEYS  1 record; 2 target: the new key, or the record again; 3 lock, or the record again
-- ARGV  1 incarnation, '' for any; 2 version, '' for any;
--       3 token: the lock, if held at all, must hold it; '' for no such check
--       4 ttl in ms; 5 the session's own ttl in ms from now on, '' to leave it as it is;
--       6 max_lifetime in ms, 0 for none; 7 max_size in bytes; 8 life of a tombstone in ms;
--       9 number of sets; 10 of deletions; 11 of additions;
--       12.. field, value for each set; field for each deletion; field, number for each
--       addition; last nonce
-- Returns {nonce, outcome, version, ...} where outcome is
--   stored   and what each addition came to follows
--   absent   nothing of ours is there; destroyed, moved: a tombstone
--   gone     another incarnation lies there, or the target is taken
--   stale    another version than asked for
--   held     another holds the lock
--   large    would exceed max_size
--   number   and the field follows: what it holds, or what is added, can't be counted
-- Nothing is written unless stored. Run twice, it finds its nonce among the last 16 commits
-- and reports what the first run did.
local record, target, lock, nonce = KEYS[1], KEYS[2], KEYS[3], ARGV[#ARGV]
local nsets, ndels, nadds = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local dels_at = 12 + 2 * nsets
local adds_at = dels_at + ndels

local function type_of(key)
  return redis.call('TYPE', key).ok
end

local function with_sums(version)
  local answer = {nonce, 'stored', version}
  for i = adds_at, adds_at + 2 * nadds - 1, 2 do
    table.insert(answer, redis.call('HGET', target, ARGV[i]) or '0')
  end
  return answer
end

-- A second run.
if type_of(target) == 'hash' then
  local at = string.find(redis.call('HGET', target, '@commits') or '', nonce, 1, true)
  if at then
    local later = math.floor((at - 1) / (#nonce + 1))
    return with_sums(redis.call('HGET', target, '@version') - later)
  end
end

-- May it be written to?
local kind = type_of(record)
if kind == 'string' then
  local mark = redis.call('GET', record)
  if mark ~= 'destroyed' and mark ~= 'moved' then mark = 'absent' end
  return {nonce, mark, 0}
end
if kind ~= 'hash' then return {nonce, 'absent', 0} end
local meta = redis.call('HMGET', record,
  '@incarnation', '@version', '@created', '@ttl', '@size', '@commits')
local incarnation, version, created = meta[1], tonumber(meta[2] or ''), tonumber(meta[3] or '')
local size, commits = tonumber(meta[5] or ''), meta[6]
if not (incarnation and version and created and size and commits) then
  return {nonce, 'absent', 0}
end
if ARGV[1] ~= '' and ARGV[1] ~= incarnation then return {nonce, 'gone', version} end
if target ~= record and type_of(target) ~= 'none' then return {nonce, 'gone', version} end

local remaining = tonumber(ARGV[5]) or tonumber(meta[4] or '') or tonumber(ARGV[4])
if ARGV[6] ~= '0' then
  local time = redis.call('TIME')
  local age = time[1] * 1000 + math.floor(time[2] / 1000) - created
  remaining = math.min(remaining, tonumber(ARGV[6]) - age)
end
if remaining <= 0 then
  redis.call('UNLINK', record)
  return {nonce, 'absent', 0}
end

if ARGV[3] ~= '' then
  local holder = type_of(lock) == 'string' and redis.call('GET', lock)
  if holder and holder ~= ARGV[3] then return {nonce, 'held', version} end
end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= version then return {nonce, 'stale', version} end

-- Can it be written?
local before = size
local function grow(field, stored, bytes)
  if not stored then size = size + #field end
  size = size + bytes - #(stored or '')
end

local function is_int(text)
  return text == '0' or (string.find(text, '^-?[1-9]%d*$') and #text <= 18)
end

local function is_number(text)
  return is_int(text) or string.find(text, '^-?%d+%.%d+$')
    or string.find(text, '^-?%d+%.?%d*[eE][+-]?%d+$')
end

-- The text of a sum. Ints are raised by HINCRBY, which is exact beyond 2^53.
local function sum_of(stored, by)
  if not (is_number(stored) and is_number(by)) then return nil end
  local sum = tonumber(stored) + tonumber(by)
  if is_int(stored) and is_int(by) then return string.format('%.0f', sum), true end
  if sum ~= sum or sum == math.huge or sum == -math.huge then return nil end
  local text = string.format('%.17g', sum)
  return string.find(text, '[.e]') and text or text .. '.0', false
end

for i = 12, dels_at - 1, 2 do
  grow(ARGV[i], redis.call('HGET', record, ARGV[i]), #ARGV[i + 1])
end
for i = dels_at, adds_at - 1 do
  local stored = redis.call('HGET', record, ARGV[i])
  if stored then size = size - #ARGV[i] - #stored end
end
local sums, ints = {}, {}
for i = adds_at, adds_at + 2 * nadds - 1, 2 do
  local stored = redis.call('HGET', record, ARGV[i])
  sums[i], ints[i] = sum_of(stored or '0', ARGV[i + 1])
  if not sums[i] then return {nonce, 'number', version, ARGV[i]} end
  grow(ARGV[i], stored, #sums[i])
end
if size > before and size > tonumber(ARGV[7]) then return {nonce, 'large', version} end

-- Write. The version first: a server without memory refuses it, and with it all the rest.
version = redis.call('HINCRBY', record, '@version', 1)
if target ~= record then
  redis.call('RENAME', record, target)
  redis.call('SET', record, 'moved', 'PX', ARGV[8])
end
redis.call('HSET', target, '@size', size,
  '@commits', string.sub(nonce .. ' ' .. commits, 1, 16 * (#nonce + 1) - 1))
if ARGV[5] ~= '' then redis.call('HSET', target, '@ttl', ARGV[5]) end
for i = 12, dels_at - 1, 2 do redis.call('HSET', target, ARGV[i], ARGV[i + 1]) end
for i = dels_at, adds_at - 1 do redis.call('HDEL', target, ARGV[i]) end
for i, sum in pairs(sums) do
  if ints[i] then
    redis.call('HINCRBY', target, ARGV[i], ARGV[i + 1])
  else
    redis.call('HSET', target, ARGV[i], sum)
  end
end
redis.call('PEXPIRE', target, remaining)
return with_sums(version)
