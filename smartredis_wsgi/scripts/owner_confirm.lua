-- Tell whether a session that was entered is still to live, now that it is stored.
-- KEYS  1 index
-- ARGV  1 slot; 2 the digest of a name that it has no more, or ''; 3 doom the oldest beyond
--       so many sessions, 0 for none; 4 nonce
-- Returns {nonce, 1 if it may live, {slot, entry, ...} of those that are doomed}.
-- Run twice, it tells the same.
local index, slot, most = KEYS[1], ARGV[1], tonumber(ARGV[3])
local entry = entry_in(redis.call('HGET', index, slot))
if not entry or entry.doomed then return {ARGV[4], 0, {}} end
if ARGV[2] ~= '' then
  entry.names = without(entry.names, ARGV[2])
  redis.call('HSET', index, slot, text_of(entry))
end
if most == 0 then return {ARGV[4], 1, {}} end

local others, doomed = {}, {}
for other, its in pairs(entries_of(index)) do
  its.slot = other
  if its.doomed then
    table.insert(doomed, its)
  elseif other ~= slot then
    table.insert(others, its)
  end
end
table.sort(others, function(a, b)
  return a.bound < b.bound or (a.bound == b.bound and a.slot < b.slot)
end)
for i = 1, #others + 1 - most do
  others[i].doomed = true
  redis.call('HSET', index, others[i].slot, text_of(others[i]))
  table.insert(doomed, others[i])
end
local told = {}
for _, its in ipairs(doomed) do
  table.insert(told, its.slot)
  table.insert(told, redis.call('HGET', index, its.slot))
end
return {ARGV[4], 1, told}
