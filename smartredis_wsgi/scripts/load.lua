-- Read a record and prolong it by its use.
-- KEYS  1 record
-- ARGV  1 ttl in ms; 2 touch_every in ms; 3 max_lifetime in ms, 0 for none;
--       4 the size in bytes of a record that comes whole, as one of over 1000 fields does;
--       '' for only the fields asked for
--       5 the size in bytes up to which the fields of a larger one come;
--       6.. fields asked for; last nonce
-- Returns {nonce, kind, prolonged, {field, value, ...}, {field, ...}, left, least}: the
--   kind as in record.lua; prolonged is 1 if the expiry was set anew, and where that is an
--   owner's index to do first, minus the ms that are due; then what comes, META too, the
--   names of what is left here, for how many ms the record still lies, and from how few on
--   a read is to prolong it. Of what was moved: {nonce, moved, grace, key}, where grace is 1
--   if everybody may still read it by its old id.
local record, nonce, ttl = KEYS[1], ARGV[#ARGV], tonumber(ARGV[1])
local kind, meta = look_at(record)
if kind == 'moved' then
  return {nonce, kind, now_ms() < meta.till and 1 or 0, meta.key}
end
if kind ~= 'alive' then return {nonce, kind, 0} end

local left = left_for(meta.ttl or ttl, meta.created, tonumber(ARGV[3]))
if left <= 0 then
  redis.pcall('UNLINK', record)
  return {nonce, 'absent', 0}
end

-- Not by a server that only reads just now.
local prolonged, now, touch = 0, redis.call('PTTL', record), ARGV[2] * left / ttl
if is_due(now, left, ARGV[2], ttl) then
  if meta.owner then
    prolonged = -left
  elseif redis.pcall('PEXPIRE', record, left) == 1 then
    prolonged, now = 1, left
  end
end

local whole, large = tonumber(ARGV[4]), tonumber(ARGV[5])
if whole and (meta.size <= whole or redis.call('HLEN', record) > 1000) then
  return {nonce, kind, prolonged, redis.call('HGETALL', record), {}, now, left - touch}
end

local names, staying, flat = {META}, {}, {}
for i = 6, #ARGV - 1 do table.insert(names, ARGV[i]) end
if whole then
  local asked = {}
  for _, name in ipairs(names) do asked[name] = true end
  local rest = meta.size  -- what those may have together that were not looked at yet
  for _, name in ipairs(redis.call('HKEYS', record)) do
    if not asked[name] then
      local bytes = rest > large and redis.call('HSTRLEN', record, name) or 0
      rest = rest - #name - bytes
      table.insert(bytes > large and staying or names, name)
    end
  end
end
for first = 1, #names, 1000 do
  local last = math.min(first + 999, #names)
  for i, value in ipairs(redis.call('HMGET', record, unpack(names, first, last))) do
    if value then
      table.insert(flat, names[first + i - 1])
      table.insert(flat, value)
    end
  end
end
return {nonce, kind, prolonged, flat, staying, now, left - touch}
