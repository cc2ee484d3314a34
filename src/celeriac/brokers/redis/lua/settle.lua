-- Ends deliveries that nothing follows: most of them, in as few steps as can be. Returns the answers.
-- include settling.lua
if keeper then keeper.tend() end
return table.concat(answers)
